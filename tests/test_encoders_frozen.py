"""What the lowest layers say of a text is computed once, and is what they would say again."""

from typing import Any

import pytest
import torch
from torch import nn

from trivium import seeds
from trivium.encoders import Encoder
from trivium.encoders.frozen import Below
from trivium.kinds import Batch


def configs() -> dict[str, Any]:
    from transformers import AlbertConfig, BertConfig, DistilBertConfig, ElectraConfig, ModernBertConfig, RobertaConfig

    shape: dict[str, Any] = {"vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
    inner = {"intermediate_size": 48}
    special = {f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "cls", "sep")}
    return {
        "bert": BertConfig(**shape, **inner),
        "roberta": RobertaConfig(**shape, **inner, pad_token_id=0),
        "electra": ElectraConfig(**shape, **inner, embedding_size=16),
        "distilbert": DistilBertConfig(vocab_size=90, dim=32, n_layers=3, n_heads=2, hidden_dim=48),
        "modernbert": ModernBertConfig(**shape, **inner, **special, global_attn_every_n_layers=2, local_attention=8),
        "albert": AlbertConfig(**shape, **inner, embedding_size=16),
    }


def encoder_of(name: str) -> Encoder:
    from transformers import AutoModelForMaskedLM

    with seeds.torch_scope(0):
        return Encoder(AutoModelForMaskedLM.from_config(configs()[name]), None).eval()


def batch_of(encoder: Encoder, seed: int = 0, rows: int = 5) -> Batch:
    rng = seeds.torch_rng(seed)
    ids = torch.randint(5, 90, (rows, 16), generator=rng)
    there = torch.arange(16) < torch.randint(3, 17, (rows, 1), generator=rng)
    types = torch.zeros_like(ids) if encoder.wants_types else None
    return Batch(ids, there, torch.where(there, 0, -1), types)


CUT = ["bert", "roberta", "distilbert", "modernbert"]


@pytest.mark.parametrize("name", CUT)
@pytest.mark.parametrize("layers", [1, 2])
def test_what_is_remembered_is_what_would_be_computed(name: str, layers: int) -> None:
    encoder, hidden = encoder_of(name), []
    first, second = batch_of(encoder), batch_of(encoder, seed=1)
    mixed = Batch(*(torch.cat([a, b]).flip(0) for a, b in zip(_four(first), _four(second), strict=True)))
    mixed = mixed if encoder.wants_types else Batch(mixed.ids, mixed.attention, mixed.words)
    with torch.no_grad():
        whole = [encoder.hidden(batch)[batch.attention] for batch in (first, second, mixed)]
        encoder.remember(layers)
        assert encoder._below is not None
        hidden = [encoder.hidden(batch)[batch.attention] for batch in (first, second, mixed)]
    for one, other in zip(whole, hidden, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def _four(batch: Batch) -> list[torch.Tensor]:
    return [batch.ids, batch.attention, batch.words, batch.ids * 0 if batch.types is None else batch.types]


@pytest.mark.parametrize("name", CUT)
def test_a_text_is_computed_once_and_gaps_every_time(name: str) -> None:
    encoder = encoder_of(name)
    encoder.remember(2)
    below, batch = encoder._below, batch_of(encoder)
    assert below is not None
    asked: list[int] = []
    real = Below._states
    below._states = lambda batch, ids: (asked.append(len(ids)), real(below, batch, ids))[1]  # type: ignore[method-assign]
    for _ in range(3):
        encoder.hidden(batch)
    assert asked == [5]
    gaps = batch.ids.clone()
    gaps[:, 1] = 4
    changed = encoder.hidden(batch, gaps)
    assert asked == [5, 5]
    assert not torch.allclose(changed[batch.attention], encoder.hidden(batch)[batch.attention])


@pytest.mark.parametrize("name", CUT)
def test_gradients_reach_what_is_above_and_are_those_of_the_whole(name: str) -> None:
    gradients = []
    for layers in (0, 2):
        encoder = encoder_of(name)
        encoder.remember(layers)
        batch = batch_of(encoder)
        encoder.hidden(batch)[batch.attention].square().sum().backward()
        above = next(m for m in encoder.backbone.modules() if isinstance(m, nn.ModuleList) and len(m) == 3)[2]
        gradients.append([p.grad for p in above.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert one is not None
        assert other is not None
        assert torch.allclose(one, other, atol=1e-4)
    below = next(m for m in encoder.backbone.modules() if isinstance(m, nn.ModuleList) and len(m) == 3)[0]
    assert all(p.grad is None for p in below.parameters())


@pytest.mark.parametrize("name", ["albert", "electra"])
def test_what_cannot_be_cut_is_computed_whole(name: str) -> None:
    encoder = encoder_of(name)
    batch = batch_of(encoder)
    with torch.no_grad():
        before = encoder.hidden(batch)
        encoder.remember(1)
        assert encoder._below is None
        assert torch.equal(before, encoder.hidden(batch))


@pytest.mark.parametrize("layers", [0, 3, 9])
def test_none_and_all_layers_are_not_cut(layers: int) -> None:
    encoder = encoder_of("bert")
    encoder.remember(layers)
    assert encoder._below is None


def test_the_backbone_is_as_before_even_where_something_goes_wrong() -> None:
    encoder = encoder_of("bert")
    encoder.remember(1)
    names = [name for name, _ in encoder.backbone.named_modules()]
    batch = batch_of(encoder)
    wrong = Batch(batch.ids, batch.attention[:, :8], batch.words, batch.types)
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever torch says of such shapes
        encoder.hidden(wrong)
    assert [name for name, _ in encoder.backbone.named_modules()] == names
    assert not encoder.backbone.training
