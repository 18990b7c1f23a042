"""Tests of training in bfloat16, on any processor: there it is emulated."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from test_training import SHAPES, TUNE, pretrained
from trivium.core import Task
from trivium.encoders.precision import precision
from trivium.errors import ConfigError
from trivium.training import Recipe, train
from trivium.training.checkpoint import weights_of
from trivium.training.software import software

CPU = torch.device("cpu")


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    for asked in ("float32", "bfloat16"):
        monkeypatch.setenv("TRIVIUM_PRECISION", asked)
        assert precision(CPU) == asked
        assert software()["precision"] == asked, "what was trained in one is not taken for the other"
    for unsaid in ("", "auto"):
        monkeypatch.setenv("TRIVIUM_PRECISION", unsaid)
        for native in (True, False):
            monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda native=native: native)
            assert precision(CPU) == ("bfloat16" if native else "float32")
    monkeypatch.setenv("TRIVIUM_PRECISION", "half")
    with pytest.raises(ConfigError, match=r"TRIVIUM_PRECISION: expected float32, bfloat16 or auto, found 'half'"):
        precision(CPU)


@pytest.mark.parametrize("kind", SHAPES)
def test_every_architecture_trains_in_bfloat16_nearly_as_in_float32(
    kind: str, tokenizer: Any, task: Task, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pretrained(kind, SHAPES[kind], tokenizer, tmp_path)
    recipe = Recipe((replace(TUNE, updates=2, max_length=32, dropout=0.0),))
    found = {}
    for asked in ("float32", "bfloat16"):
        monkeypatch.setenv("TRIVIUM_PRECISION", asked)
        found[asked] = weights_of(train(task, recipe, encoder=str(folder)))
    exact, rough = found["float32"], found["bfloat16"]
    assert all(value.dtype == torch.float32 for value in rough.values())
    assert all(torch.isfinite(value).all() for value in rough.values())
    same = all(torch.equal(value, exact[name]) for name, value in rough.items())
    assert same == (kind == "deberta"), "it cannot, and is computed in float32"
    for name, value in rough.items():
        assert (value - exact[name]).norm() <= 0.1 * exact[name].norm() + 0.01, name
