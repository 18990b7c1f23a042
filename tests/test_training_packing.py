"""Texts end to end are the texts in a padded rectangle; on the CPU by a slow kernel, on a GPU by a quick one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from test_training import JOINT, SHAPES, pretrained
from trivium import seeds
from trivium.core import Task
from trivium.encoders import encoder as module
from trivium.encoders.packing import Packing
from trivium.kinds import Batch, Encoded
from trivium.masking import RandomTokens
from trivium.training import Encoder, Pretrained, Scratch, new_encoder, run_stage
from trivium.training.checkpoint import weights_of

PACKABLE = {"bert", "roberta", "electra", "distilbert", "albert"}  # and a ModernBERT without windows, as from scratch


def batch_of(lengths: list[int], vocabulary: int, *, types: bool) -> Batch:
    there = torch.arange(32)[None] < torch.tensor(lengths)[:, None]
    ids = torch.randint(8, vocabulary, there.shape, generator=seeds.torch_rng(1)) * there
    return Batch(ids, there, ids, (torch.arange(32) > 9).long().expand_as(ids) * there if types else None)


@pytest.mark.parametrize("architecture", SHAPES)
def test_packed_hidden_states_are_the_padded_ones(architecture: str, tokenizer: Any, tmp_path: Path) -> None:
    folder = pretrained(architecture, SHAPES[architecture], tokenizer, tmp_path / "hub")
    encoder = new_encoder(Pretrained(str(folder)), tokenizer, 64, seed=0).eval()
    packing = Packing.of(encoder.backbone)
    assert (packing is not None) == (architecture.strip() in PACKABLE)
    if packing is None:
        return
    batch = batch_of([32, 1, 17, 5], len(tokenizer), types=encoder.wants_types)
    padded = encoder.hidden(batch)
    packed = packing.hidden(batch, batch.ids)
    assert_close(packed[batch.attention], padded[batch.attention], atol=1e-5, rtol=1e-4)
    assert (packed[~batch.attention] == 0).all()


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_training_packed_makes_the_same_weights(
    architecture: Any, fresh: Callable[[Scratch], Encoder], task: Task, documents: Encoded, monkeypatch: Any
) -> None:
    spec, found, used = Scratch("tiny", architecture=architecture, vocabulary=512), [], []
    whole = Packing.hidden
    monkeypatch.setattr(Packing, "hidden", lambda *given: used.append(1) or whole(*given))
    for devices in (("cuda",), ("cpu",)):
        monkeypatch.setattr(module, "PACKED_ON", devices)
        encoder = fresh(spec)
        run_stage(encoder, replace(JOINT, dropout=0.0), task, documents=documents, masker=RandomTokens(), seed=0)
        found.append(weights_of(encoder))
    assert len(used) > JOINT.updates
    for name, value in found[0].items():
        assert_close(value, found[1][name], atol=2e-4, rtol=1e-3, msg=name)


def test_attention_that_is_dropped_out_is_padded(
    fresh: Callable[[Scratch], Encoder], task: Task, documents: Encoded, monkeypatch: Any
) -> None:
    spec = Scratch("tiny", architecture="bert", vocabulary=512)
    plain, asked = fresh(spec), fresh(spec)
    how: dict[str, Any] = {"documents": documents, "masker": RandomTokens(), "seed": 0}
    stage = replace(JOINT, dropout=0.2, keep_best=False, evaluate_every=100)
    run_stage(plain, stage, task, **how)
    monkeypatch.setattr(module, "PACKED_ON", ("cpu",))
    run_stage(asked, stage, task, **how)
    assert all(torch.equal(value, weights_of(asked)[name]) for name, value in weights_of(plain).items())


@pytest.mark.gpu
@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_the_quick_kernel_is_the_slow_one(architecture: Any, fresh: Callable[[Scratch], Encoder]) -> None:
    encoder = fresh(Scratch("mini", architecture=architecture, vocabulary=512)).eval()
    batch = batch_of([32, 1, 17, 5], 100, types=encoder.wants_types)
    slow = Packing(encoder.backbone, 0).hidden(batch, batch.ids)
    encoder.cuda()
    packing = Packing.of(encoder.backbone)
    assert packing is not None
    with torch.autocast("cuda", torch.bfloat16):
        quick = packing.hidden(batch.to(torch.device("cuda")), batch.ids.cuda())
    assert_close(quick.float().cpu(), slow, atol=0.1, rtol=0.1)


def test_layers_that_look_at_neighbours_alone_are_padded(tokenizer: Any, tmp_path: Path) -> None:
    """A text longer than the window would show it, and the comparison's texts may be shorter."""
    local = {**SHAPES["modernbert"], "local_attention": 16, "layer_types": ["full_attention", "sliding_attention"]}
    folder = pretrained("modernbert", local, tokenizer, tmp_path / "hub")
    encoder = new_encoder(Pretrained(str(folder)), tokenizer, 64, seed=0).eval()
    assert Packing.of(encoder.backbone) is None


@pytest.mark.parametrize("architecture", sorted(PACKABLE))
def test_a_packed_encoder_takes_a_head(
    architecture: str, tokenizer: Any, task: Task, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(module, "PACKED_ON", ("cpu",))
    folder = pretrained(architecture, SHAPES[architecture], tokenizer, tmp_path / "hub")
    new_encoder(Pretrained(str(folder)), tokenizer, 64, seed=0).add_head(task)
