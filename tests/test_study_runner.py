"""A study from files to verdict: what it leaves behind, what it does not do twice, and when it opens the test split."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import tiny_study
from trivium.config import StudyConfig, parse_config
from trivium.core import Task
from trivium.data import load_task
from trivium.errors import ArtifactError, ConfigError, TrainingError, TriviumError
from trivium.study import fitting, job, judging, runner
from trivium.study.progress import Silent
from trivium.study.runner import Study, choose_documents, choose_maskers, run


def config(data: Path, **changes: Any) -> StudyConfig:
    return parse_config({**tiny_study(data), **changes}, "tiny.yaml")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def study(data: Path, runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIVIUM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        return run(config(data), runs=runs)


def manifest(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_text())


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_run_folder(study: Study) -> None:
    verdict = json.loads((study.folder / "verdict.json").read_text())
    assert list(verdict)[:8] == ["study", "task", "metric", "split", "baseline", "seeds", "arms", "comparisons"]
    assert verdict["split"] == "test"
    assert "baseline finetune" in str(study.verdict)
    assert verdict["seeds"] == [0, 1]
    assert list(verdict["arms"]) == ["finetune", "random", "tlm", "linear"]
    asked = {(c["arm"], c["baseline"]) for c in verdict["comparisons"]}
    assert {("random", "finetune"), ("tlm", "finetune"), ("tlm", "random"), ("tlm", "linear")} <= asked
    assert {"config.yaml", "manifest.json", "events.jsonl", "scores.jsonl", "report.html", "report.md"} <= {
        f.name for f in study.folder.iterdir()
    }
    scored = {(s["arm"], s["seed"], s["split"]) for s in lines(study.folder / "scores.jsonl")}
    assert ("tlm", 1, "test") in scored
    assert ("linear", 0, "dev") in scored
    assert manifest(study.folder)["status"] == "finished"


def test_all_arms_make_equal_updates(study: Study) -> None:
    arms = json.loads((study.folder / "verdict.json").read_text())["arms"]
    planned = {a["budget"]["updates"] for a in manifest(study.folder)["arms"].values()}
    assert planned == {16}
    assert all(arms[name]["updates"] <= 16 for name in ("finetune", "random", "tlm"))


def test_a_second_run_does_nothing_twice(data: Path, runs: Path, study: Study) -> None:
    before = {f: f.stat().st_mtime_ns for f in (study.folder / "artifacts").rglob("*") if f.is_file()}
    verdict = (study.folder / "verdict.json").read_bytes()
    run(config(data), runs=runs)
    after = {f: f.stat().st_mtime_ns for f in (study.folder / "artifacts").rglob("*") if f.is_file()}
    assert {a["status"] for a in manifest(study.folder)["artifacts"]} == {"reused"}
    assert {f for f in after if f.parent.name != ".locks"} == {f for f in before if f.parent.name != ".locks"}
    assert all(after[f] == before[f] for f in before if f.parent.name != ".locks")
    assert (study.folder / "verdict.json").read_bytes() == verdict


def test_a_changed_choice_redoes_what_depends_on_it(
    data: Path, task: Task, tmp_path: Path, study: Study, runs: Path
) -> None:
    changed = tiny_study(data)
    changed["arms"]["tlm"]["documents"]["per_query"] = 2
    run(parse_config(changed, "tiny.yaml"), runs=runs)
    assert any("looked at before, for 2 models" in note for note in manifest(study.folder)["notes"])
    made = [a["kind"] for a in manifest(study.folder)["artifacts"] if a["status"] == "made"]
    assert sorted(made) == sorted(["documents", "reading", *["stage"] * 4, *["score"] * 4])
    run(config(data), runs=runs)  # and back: nothing was lost
    assert {a["status"] for a in manifest(study.folder)["artifacts"]} == {"reused"}


def test_the_test_split_is_opened_when_training_is_over(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    stages = []
    real = judging.evaluate

    def spy(model: Any, task: Task, **options: Any) -> Any:
        opened.append(options["split"])
        stages.append(len(list((tmp_path / "tiny" / "artifacts").glob("stage-*/done.json"))))
        return real(model, task, **options)

    monkeypatch.setattr(judging, "evaluate", spy)
    run(config(data, seeds=1), runs=tmp_path)
    assert opened.count("test") == 3  # once per arm and seed
    assert set(stages) == {5}


def test_what_workers_see_holds_no_test_row(study: Study, data: Path) -> None:
    task = load_task(data / "reviews")
    texts = set(task.texts("test")) - set(task.texts("train")) - set(task.texts("dev"))
    for folder in (study.folder / "artifacts").glob("task-*"):
        assert not (folder / "test.parquet").exists()
        seen = b"".join(f.read_bytes() for f in folder.iterdir())
        assert not any(text.encode() in seen for text in texts)


def test_labels_of_test_choose_and_train_nothing(data: Path, task: Task, study: Study, tmp_path: Path) -> None:
    """Permuting the labels of the test split changes no artifact that training made."""
    shutil.copytree(data, tmp_path / "data")
    path = tmp_path / "data" / "reviews" / "test.csv"
    head, *rows = path.read_text().splitlines()
    labels = [row.rpartition(",")[2] for row in rows]
    moved = [f"{row.rpartition(',')[0]},{label}" for row, label in zip(rows, labels[1:] + labels[:1], strict=True)]
    path.write_text("\n".join([head, *moved]) + "\n")
    other = run(config(tmp_path / "data", seeds=1), runs=tmp_path / "runs")
    stages = {f.name for f in (study.folder / "artifacts").glob("stage-*")}
    assert {f.name for f in (other.folder / "artifacts").glob("stage-*")} <= stages


class StopError(Exception):
    """Stands for a power cut."""


class Stopping(Silent):
    """Pulls the plug when training has done half of its work."""

    def phase(self, name: str) -> Any:
        from contextlib import contextmanager

        @contextmanager
        def bar() -> Any:
            def move(done: float, total: float) -> None:
                if name.startswith("training") and done > total / 2:
                    raise StopError

            yield move

        return bar()


def test_an_interrupted_run_goes_on_and_ends_alike(data: Path, study: Study, tmp_path: Path) -> None:
    with pytest.raises(StopError):
        run(config(data), runs=tmp_path, reporter=Stopping())
    assert not (tmp_path / "tiny" / "verdict.json").exists()
    assert manifest(tmp_path / "tiny")["status"] == "running"
    resumed = run(config(data), runs=tmp_path).verdict.to_json()
    whole = study.verdict.to_json()
    assert resumed["comparisons"] == whole["comparisons"]
    assert [a["per_seed"] for a in resumed["arms"].values()] == [a["per_seed"] for a in whole["arms"].values()]


def test_workers_agree_with_this_process(data: Path, tmp_path: Path, study: Study) -> None:
    threads = os.cpu_count() or 1  # as many workers as cores: each computes on one thread, as the tests do
    workers = run(config(data, seeds=1, engine={"workers": threads}), runs=tmp_path).verdict.to_json()
    if threads == 1:
        pytest.skip("one core: there is no worker")
    alone = study.verdict.to_json()
    for name, arm in workers["arms"].items():
        assert arm["per_seed"] == alone["arms"][name]["per_seed"][:1]


def test_models_are_plain_transformers(study: Study, data: Path) -> None:
    from transformers import pipeline

    task = load_task(data / "reviews")
    folder = study.folder / "models" / "tlm" / "seed-1"
    classify = pipeline("text-classification", model=str(folder), device="cpu")
    theirs = [answer["label"] for answer in classify(task.texts("test"))]
    predictions = {
        tuple(found.predicted.tolist())
        for path in (study.folder / "artifacts").glob("score-*")
        if (found := judging.load_answers(path, task, "test")) and len(found.gold) == len(task.rows("test"))
    }
    assert tuple(task.labels.index(label) for label in theirs) in predictions
    assert json.loads((folder / "config.json").read_text())["label2id"] == {n: i for i, n in enumerate(task.labels)}


def test_a_diverging_arm_is_set_aside(data: Path, tmp_path: Path) -> None:
    arms = tiny_study(data)["arms"]
    arms["random"]["stages"][0]["lr"] = 1e30
    found = run(config(data, arms=arms, seeds=1), runs=tmp_path).verdict.to_json()
    assert "learning rate" in found["arms"]["random"]["failed"]
    assert found["arms"]["tlm"]["failed"] is None


class Said(Silent):
    """Remembers what was said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def test_one_seed_that_diverges_sets_its_arm_aside_and_every_place_says_which(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tried = job.run_stage, []

    def broken(encoder: Any, stage: Any, task: Task, **more: Any) -> Any:
        tried.append((stage.name, more["seed"]))
        if more["seed"] == 1 and stage.lr == 0.5:
            raise TrainingError("the loss is no number any more in update 3 of 8")
        return real(encoder, stage, task, **more)

    monkeypatch.setattr(job, "run_stage", broken)
    arms = tiny_study(data)["arms"]
    del arms["tlm"]
    arms["random"]["stages"][1]["lr"] = 0.5
    said = Said()
    found = run(config(data, arms=arms), runs=tmp_path, reporter=said)
    text = "with seed 1: the loss is no number any more in update 3 of 8"
    assert json.loads((found.folder / "verdict.json").read_text())["arms"]["random"]["failed"] == text
    assert "random, seed 1 failed: the loss is no number any more in update 3 of 8" in said.lines
    assert f"failed: {text}" in str(found.verdict)
    for page in ("report.html", "report.md"):
        assert text in (found.folder / page).read_text()
    scored = {(line["arm"], line["seed"]) for line in lines(found.folder / "scores.jsonl")}
    assert scored == {("finetune", 0), ("finetune", 1), ("linear", 0)}

    tried.clear()  # what was done is found done; what failed is tried again, and no more
    run(config(data, arms=arms), runs=tmp_path)
    assert tried == [("finetune", 1)]
    arms["random"]["stages"][1]["lr"] = 1e-4  # the way out: its last stage alone is made anew
    tried.clear()
    mended = run(config(data, arms=arms), runs=tmp_path).verdict.to_json()
    assert tried == [("finetune", 0), ("finetune", 1)]
    assert mended["arms"]["random"]["failed"] is None


def test_what_to_hide_that_cannot_be_learned_sets_its_arm_aside(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(masker: Any, known: Any, **_: Any) -> Any:
        raise TrainingError("the loss is no number any more in update 2 of 9")

    monkeypatch.setattr(fitting, "make_ready", broken)
    arms = tiny_study(data)["arms"]
    del arms["random"]
    arms["tlm"]["masker"] = {"kind": "pmi"}
    found = run(config(data, arms=arms, seeds=1), runs=tmp_path)
    failed = found.verdict.to_json()["arms"]["tlm"]["failed"]
    assert failed == "with seed 0: learning what to hide: the loss is no number any more in update 2 of 9"
    assert found.verdict.to_json()["arms"]["finetune"]["failed"] is None
    assert failed in (found.folder / "report.html").read_text()
    with pytest.raises(TriviumError, match="no arm could be trained"):
        choose_maskers(config(data, arms={"finetune": arms["tlm"]}, seeds=1), runs=tmp_path / "alone")


def test_when_every_arm_diverges_it_says_so(data: Path, tmp_path: Path) -> None:
    arms = {"finetune": {"stages": [{"preset": "finetune", "updates": 8, "lr": 1e30}]}}
    with pytest.raises(TriviumError, match="no arm could be trained"):
        run(config(data, arms=arms, seeds=1), runs=tmp_path)


def test_two_runs_in_one_folder(data: Path, tmp_path: Path) -> None:
    store = runner.Store(tmp_path / "tiny")
    with store.owned(), pytest.raises(ArtifactError, match="another process"):
        run(config(data), runs=tmp_path)


def test_documents_alone(data: Path, tmp_path: Path) -> None:
    chosen = choose_documents(config(data), runs=tmp_path)
    assert set(chosen) == {"random", "tlm"}
    assert chosen["tlm"]["counts"]["words"] <= 800
    assert all(shown["terms"] for shown in chosen["tlm"]["examples"])
    assert not list((tmp_path / "tiny" / "artifacts").glob("stage-*"))


def test_without_test_rows_the_verdict_is_about_dev(data: Path, tmp_path: Path) -> None:
    paths = {split: str(data / "reviews" / f"{split}.csv") for split in ("train", "dev")}
    found = run(config(data, task={"path": paths}, seeds=1), runs=tmp_path).verdict.to_json()
    assert found["split"] == "dev"


def test_unknown_metric(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="macro_f1"):
        run(config(data, task={"path": str(data / "reviews"), "metric": "f2"}), runs=tmp_path)


def test_seeds_differ(study: Study) -> None:
    found = lines(study.folder / "events.jsonl")
    losses = {s: [e["mlm"] for e in found if e["arm"] == "tlm" and e["seed"] == s and e.get("mlm")] for s in (0, 1)}
    assert not np.allclose(losses[0], losses[1])


def test_weights_of_labels_that_are_not_there_are_refused_before_anything_is_chosen(data: Path, tmp_path: Path) -> None:
    arms = tiny_study(data)["arms"]
    arms["tlm"]["stages"][1]["class_weight"] = {"swimming": 2.0}
    with pytest.raises(ConfigError, match=r"arms.tlm, stage 'finetune', class_weight: expected labels of the task"):
        run(config(data, arms=arms), runs=tmp_path)
    assert not list(tmp_path.glob("*/artifacts/documents-*"))
