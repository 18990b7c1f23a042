"""A model as ONNX: what torch says, whatever the length and the batch; and nothing at all where it is not."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from test_training_kinds import make
from trivium.cli import app
from trivium.encoders import from_scratch, train_tokenizer
from trivium.encoders.encoder import Scratch, head_folder, inputs_of, logits_of
from trivium.encoders.streams import collate
from trivium.errors import ArtifactError, ConfigError
from trivium.kinds import KINDS, Cut
from trivium.seeds import torch_scope
from trivium.training import export
from trivium.training.export import export_onnx
from trivium.training.predict import Predictor

ROOT = Path(__file__).parents[1]
MISSING = [name for name in ("onnx", "onnxruntime", "onnxscript") if export.find_spec(name) is None]
NEEDS_ONNX = [
    pytest.mark.onnx,
    pytest.mark.skipif(bool(MISSING), reason="the extra onnx is not installed"),
]
ARCHITECTURES = ("bert", "modernbert")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """A model of every architecture and kind, untrained; weights are larger than at a start, so that logits differ."""
    tasks = [make(kind, 20) for kind in KINDS]
    tokenizer = train_tokenizer([text for task in tasks for text in task.texts("train")], 512)
    found = {}
    for architecture in ARCHITECTURES:
        folder = tmp_path_factory.mktemp(architecture)
        with torch_scope(0, architecture):
            encoder: Any = from_scratch(Scratch("tiny", architecture=architecture, vocabulary=512), tokenizer, 64)
            for task in tasks:
                encoder.add_head(task)
                encoder.keep_cut(task, Cut(48))
        with torch.no_grad():
            for weight in encoder.parameters():
                weight.mul_(2.0 if weight.dim() > 1 else 1.0)
        encoder.save(folder)
        found |= {(architecture, task.kind): head_folder(folder, task.name) for task in tasks}
    return found


def call(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output if code else result.stdout


@pytest.fixture
def exported(models: dict[tuple[str, str], Path], tmp_path: Path) -> Path:
    call("export", models["bert", "classify"], "-o", tmp_path / "onnx")
    return tmp_path / "onnx"


def onnx(function: Any) -> Any:
    for mark in NEEDS_ONNX:
        function = mark(function)
    return function


@onnx
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_of_a_task_get_the_logits_of_torch(
    architecture: str, kind: str, models: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    """On rows that the check at export has not seen, of any number and length."""
    import onnxruntime

    model = models[architecture, kind]
    made = export_onnx(model, tmp_path / "onnx")
    assert made.difference <= 1e-4
    session = onnxruntime.InferenceSession(str(tmp_path / "onnx" / "model.onnx"), providers=["CPUExecutionProvider"])
    predictor = Predictor(model)
    rows = make(kind, 20).rows("dev").drop_columns(["label"])
    encoded = KINDS[kind].encode(predictor.tokenizer, rows, predictor.labels, predictor.cut)
    for chosen in ([0], [3, 1], list(range(2, 13))):
        batch = collate(encoded, np.asarray(chosen), predictor.tokenizer.pad_token_id, types=predictor.types)
        inputs = inputs_of(batch)
        with torch.inference_mode():
            wanted = logits_of(predictor.model, inputs)
        found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        several = [torch.from_numpy(one) for one in found]
        logits = torch.stack(several, -1) if kind == "span" else several[0]
        here = batch.attention if kind in ("tag", "span") else slice(None)
        torch.testing.assert_close(logits[here], wanted[here], atol=1e-4, rtol=1e-4)
        assert float(wanted.abs().max()) > 0.01  # it says something


@onnx
def test_what_lies_there(exported: Path, models: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    assert {f.name for f in exported.iterdir()} == {
        "config.json", "model.onnx", "onnx.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    about = json.loads((exported / "onnx.json").read_text())
    assert about["inputs"]["input_ids"] == {"type": "int64", "shape": ["batch", "length"]}
    assert set(about["inputs"]) == {"input_ids", "attention_mask", "token_type_ids"}
    assert about["outputs"] == {"logits": {"type": "float", "shape": ["batch", 3]}}
    assert about["labels"] == ["cooking", "sailing", "chess"]
    assert about["max_length"] == 48
    assert about["check"]["largest_difference"] <= about["check"]["tolerance"] == 1e-4
    shapes = about["check"]["batches"]
    assert len({rows for rows, _ in shapes}) > 2
    assert len({length for _, length in shapes}) > 2
    assert json.loads((exported / "config.json").read_text())["id2label"]["2"] == "chess"
    onnx_model = __import__("onnx").load(exported / "model.onnx")
    __import__("onnx").checker.check_model(onnx_model)


@onnx
def test_a_card_goes_with_it_and_an_earlier_export_gives_way(
    exported: Path, models: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    model = Path(shutil.copytree(models["bert", "classify"], tmp_path / "model"))
    (model / "README.md").write_text("a card")
    export_onnx(model, exported)
    assert (exported / "README.md").read_text() == "a card"


@onnx
def test_a_logit_too_far_away_is_refused_and_nothing_is_written(
    models: dict[tuple[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = export._session

    class Wrong:
        def __init__(self, file: Path) -> None:
            self.session = real(file)

        def run(self, *arguments: Any) -> Any:
            return [found + 0.01 for found in self.session.run(*arguments)]

    monkeypatch.setattr(export, "_session", Wrong)
    said = call("export", models["bert", "classify"], "-o", tmp_path / "onnx", code=1)
    assert re.search(r"expected logits .* within 0.0001 .* found a difference of 0.01", said)
    assert not (tmp_path / "onnx").exists()
    assert not list(tmp_path.glob(".tmp-*"))


@onnx
def test_the_docs_say_how_it_is_used(
    models: dict[tuple[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(models["modernbert", "classify"], tmp_path / "runs" / "reviews" / "models" / "tlm" / "seed-0")
    page = (ROOT / "docs" / "after.md").read_text()
    (command,) = re.findall(r"^```sh onnx\ntrivium (.*?)\n```", page, re.MULTILINE | re.DOTALL)
    call(*command.split())
    (code,) = re.findall(r"^```python onnx\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    space: dict[str, Any] = {}
    exec(compile(code, "after.md", "exec"), space)
    assert space["label"] in ("cooking", "sailing", "chess")


def test_without_the_extra_it_says_what_to_install(
    models: dict[tuple[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    said = call("export", models["bert", "classify"], "-o", tmp_path / "onnx", code=2)
    assert "pip install 'trivium[onnx]'" in said


def test_files_of_somebody_are_left_alone(
    models: dict[tuple[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: name)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="found other files in it"):
        export_onnx(models["bert", "classify"], tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(ArtifactError, match="expected a model folder"):
        export_onnx(tmp_path, tmp_path / "new")


def test_nothing_to_do_is_a_mistake() -> None:
    assert "--push OWNER/NAME" in call("export", "model", code=2)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_several_lengths_are_checked_in_batches_of_several_sizes(
    kind: str, models: dict[tuple[str, str], Path]
) -> None:
    batches = list(export._batches(Predictor(models["modernbert", kind])))
    assert len({len(batch.ids) for batch in batches}) >= 4
    assert len({batch.ids.shape[1] for batch in batches}) >= 3
    assert max(batch.ids.shape[1] for batch in batches) == 48
    assert any(not batch.attention.all() for batch in batches)
