"""The training benchmarks run to their end, and compare what they say they compare."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from trivium.core import Stage
from trivium.encoders.streams import plan
from trivium.kinds import Encoded
from trivium.training import Encoder
from trivium.training.optimizer import make_optimizer

BENCH = Path(__file__).parent.parent / "bench"


@pytest.fixture(scope="module")
def bench() -> Iterator[dict[str, ModuleType]]:
    """The modules of the benchmark, which is not a package."""
    sys.path.insert(0, str(BENCH))
    try:
        import gpu
        import training
        import ways

        yield {"gpu": gpu, "training": training, "ways": ways}
    finally:
        sys.path.remove(str(BENCH))


@pytest.mark.filterwarnings("default")
def test_all_ways_run_and_learn_the_same_amount(
    bench: Any, texts: list[str], tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    seen: list[Any] = []
    show = bench["training"].show
    monkeypatch.setattr(bench["training"], "show", lambda *given: (seen.append(given[2]), show(*given)))
    given = ["--texts", str(tmp_path / "texts.jsonl"), "--tokens", "128", "--vocabulary", "512", "--rounds", "1"]
    bench["training"].main([*given, "--quick", "--inside", "--lengths", "sentences"])
    (found,) = seen
    printed = capsys.readouterr().out
    assert {name: one.failed for name, one in found.items()} == dict.fromkeys(found)
    losses = [one.end.loss for one in found.values() if one.end.updates == 4]
    assert len(losses) >= 4
    assert np.ptp(losses) < 0.5
    assert "at least 4 × (a)" in printed
    assert "at least 2 × the quickest (b)" in printed


def test_gpu_path_runs_on_a_cpu(bench: Any, capsys: Any) -> None:
    bench["gpu"].main(["--device", "cpu", "--quick", "--inside", "--no-compile", "--lengths", "128", "--tokens", "256"])
    printed = capsys.readouterr().out
    assert "failed" not in printed
    assert printed.count("128       (") == 5


def test_budget_comes_to_the_wanted_tokens(bench: Any, documents: Encoded) -> None:
    budget = bench["ways"].batch_tokens(documents, 256, 0)
    batches = plan(documents, np.random.default_rng(1), None, budget)
    assert abs(documents.lengths.sum() / len(batches) - 256) < 0.15 * 256


def test_everybody_has_the_optimizer_of_the_loop(bench: Any, fresh: Any) -> None:
    from trivium.training import Scratch

    encoder: Encoder = fresh(Scratch("tiny", architecture="bert", vocabulary=512))
    ours = make_optimizer(encoder, Stage("bench", {"documents": 1}, updates=1))
    assert {name: ours.defaults[name] for name in ("betas", "eps")} == bench["ways"].ADAM
    decays = {g["weight_decay"]: sum(p.numel() for p in g["params"]) for g in ours.param_groups}
    theirs = {g["weight_decay"]: sum(p.numel() for p in g["params"]) for g in bench["ways"].decaying(encoder, 0.01)}
    assert decays == theirs


def test_needed_operations_by_hand(bench: Any, tokenizer: Any) -> None:
    from trivium.training import Scratch

    texts = Encoded(
        np.zeros(30, np.int32), np.full(30, 1, np.int32), np.zeros(30, np.uint8), np.array([0, 10, 30], np.int64)
    )
    need = bench["gpu"].needs(Scratch("tiny", "bert", 512), tokenizer, texts)
    layers = 2 * 12 * 128**2
    head = 128**2 + 128 * len(tokenizer)
    attention = 12 * 2 * 128 * (10**2 + 20**2) / 30
    assert need.strict == pytest.approx(6 * layers + 6 * head * 0.15 + attention)


def test_without_a_gpu_it_says_so(bench: Any, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    bench["gpu"].main([])
    assert "no CUDA device" in capsys.readouterr().out
