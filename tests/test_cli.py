"""The verbs as a stranger types them: what they print, and how they exit."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from conftest import tiny_study
from trivium import __version__
from trivium.cli import app

SMALL = ["seeds=1", "encoder={scratch: tiny, vocabulary: 512}", "engine.workers=1"]


def call(*arguments: object, code: int = 0, stdin: str | None = None) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output if code else result.stdout


@pytest.fixture
def file(tmp_path: Path, data: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_study(data)))
    return path


def test_version_and_help() -> None:
    assert __version__ in call("--version")
    assert all(verb in call("--help") for verb in ("demo", "run", "check", "new", "documents", "report", "predict"))


def test_from_files_to_predictions(tmp_path: Path, data: Path, file: Path) -> None:
    runs = tmp_path / "runs"
    verdict = json.loads(call("run", file, "seeds=1", "--runs", runs, "--json"))
    assert verdict == json.loads((runs / "tiny" / "verdict.json").read_text())
    assert verdict == json.loads(call("report", runs / "tiny", "--json"))
    said = call("report", runs / "tiny")
    assert "report.html" in said
    assert "tlm" in said
    model = runs / "tiny" / "models" / "tlm" / "seed-0"
    answers = [json.loads(line) for line in call("predict", model, data / "reviews" / "dev.csv").splitlines()]
    assert len(answers) == 30
    assert set(answers[0]["probabilities"]) == {"chess", "cooking", "sailing"}
    assert answers[0]["label"] == max(answers[0]["probabilities"], key=answers[0]["probabilities"].get)
    assert json.loads((model / "tokenizer_config.json").read_text())["model_max_length"] == 128
    (piped,) = map(json.loads, call("predict", model, stdin="rook takes bishop\n").splitlines())
    assert piped["label"] in answers[0]["probabilities"]


def test_new_and_check(tmp_path: Path, data: Path) -> None:
    output = tmp_path / "study.yaml"
    said = call("new", data / "reviews", data / "corpus.jsonl", "-o", output)
    assert "chess" in said
    assert f"trivium check {output}" in said
    before = set(tmp_path.rglob("*"))
    plan = json.loads(call("check", output, *SMALL, "--json"))
    assert set(tmp_path.rglob("*")) == before  # it writes nothing
    assert plan["rows"] == {"train": 60, "dev": 30, "test": 30}
    assert plan["seconds"] > 0
    assert [s["stage"] for s in plan["arms"]["tlm"]] == ["tlm-joint", "finetune"]
    assert sum(s["updates"] for s in plan["arms"]["finetune"]) == sum(s["updates"] for s in plan["arms"]["tlm"])
    assert "already" in call("new", data / "reviews", "-o", output, code=2)


def test_check_reads_well(file: Path) -> None:
    said = call("check", file)
    assert "60 train" in said
    assert "tlm-joint" in said
    assert all(len(line) <= 120 for line in said.splitlines())


def test_documents(file: Path, tmp_path: Path) -> None:
    said = call("documents", file, "--runs", tmp_path)
    assert "tlm:" in said
    assert "s0" in said


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["run", "missing.yaml"], 2, "no such study file"),
        (["run", "FILE", "sedes=3"], 2, "did you mean 'seeds'"),
        (["run", "FILE", "arms.tlm.documents.per_qeury=3"], 2, "did you mean 'per_query'"),
        (["run", "FILE", "task.path=nowhere"], 1, "nowhere"),
        (["report", "nowhere"], 1, "expected a finished run"),
        (["predict", "nowhere", "-"], 1, "expected a model folder"),
        (["run"], 2, "Missing argument"),
    ],
)
def test_mistakes(arguments: list[str], code: int, words: str, file: Path, tmp_path: Path) -> None:
    said = call(*[str(file) if a == "FILE" else a for a in arguments], code=code)
    assert words in said
    assert "Traceback" not in said


def test_doctor() -> None:
    assert json.loads(call("doctor", "--json"))["versions"]["trivium"] == __version__
