"""The demo is an ordinary study on gathered docstrings; the gathering has tests of its own."""

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import write_files
from trivium.config import load_config
from trivium.core import Task
from trivium.study import demo
from trivium.study.arms import questions, resolve

SMALL = [f"arms.{arm}.stages.{i}.updates=4" for arm in ("random", "tlm") for i in (0, 1)]
SMALL += ["arms.finetune.stages.0.updates=4", "seeds=1", "engine.workers=1", "encoder.vocabulary=512"]


def gathered(folder: Path, task: Task, texts: list[str]) -> None:
    write_files(folder.parent / "made", task, texts)
    folder.mkdir()
    for split in ("train", "dev", "test"):
        rows = task.rows(split)
        pairs = zip(rows["text"].to_pylist(), rows["label"].to_pylist(), strict=True)
        lines = [json.dumps({"text": text, "label": task.labels[label]}) for text, label in pairs]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "corpus.jsonl.gz").write_bytes(_zipped((folder.parent / "made" / "corpus.jsonl").read_bytes()))


def _zipped(content: bytes) -> bytes:
    import gzip

    return gzip.compress(content, mtime=0)


def test_it_gathers_once_and_runs_a_study(
    tmp_path: Path, task: Task, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def write(folder: Path, progress: Any) -> None:
        calls.append(folder)
        gathered(folder, task, texts)

    monkeypatch.setattr(demo, "write_docstrings", write)
    first = demo.run_demo(tmp_path, SMALL)
    again = demo.run_demo(tmp_path, SMALL)
    assert len(calls) == 1
    assert first.verdict == again.verdict
    assert first.report.exists()
    assert set(first.verdict.arms) == {"finetune", "random", "tlm", "linear"}
    assert json.loads((tmp_path / "demo" / "manifest.json").read_text())["command"].startswith("trivium demo")


def test_its_study_file_is_a_fair_comparison(tmp_path: Path) -> None:
    from importlib.resources import files

    file = tmp_path / "demo.yaml"
    file.write_text(files("trivium.study").joinpath("demo.yaml").read_text())
    config = load_config(file)
    arms = resolve(config)
    assert len(config.seed_list) == 3
    assert config.equal == "updates"
    assert ("tlm", "random") in questions(arms, config.baseline)  # they differ in what is read and in nothing else


@pytest.mark.slow
def test_the_whole_demo_with_real_docstrings(tmp_path: Path) -> None:
    found = demo.run_demo(tmp_path, SMALL)
    assert found.verdict.split == "test"
    assert found.verdict.task == "docstrings"
