"""Studies of every kind of task: what they leave behind, what their reports say, and the linear model beside them."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from test_study_report import Page
from test_training_kinds import LABELS, MAKERS, make
from trivium.cli import app
from trivium.config import parse_config
from trivium.core import SPLITS, Task
from trivium.data import load_task, read_texts
from trivium.data.saved import load_saved_task, save_task
from trivium.errors import ArtifactError, DataError
from trivium.kinds import KINDS, kind_of
from trivium.study.bands import Band
from trivium.study.foreseen import Plan
from trivium.study.judging import load_answers, save_answers, score_line
from trivium.study.linear import LINEAR_MODELS, Linear
from trivium.study.linear_tags import shape
from trivium.study.linear_texts import _vectorizer
from trivium.study.report_text import METRICS, metric_name
from trivium.study.runner import Study, run
from trivium.study.timing import StagePlan
from trivium.training.evaluation import score
from trivium.training.predict import predict

TASKS = {kind: make(kind, 60) for kind in MAKERS}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
OTHERS = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "classify"])


def plain_row(kind: str, row: dict[str, Any]) -> dict[str, Any]:
    """A row of a task as a user's file has it."""
    names, label = LABELS[kind], row["label"]
    if kind == "span":
        answers = {"text": [a["text"] for a in label], "answer_start": [a["start"] for a in label]}
        return {"question": row["text"], "context": row["text_pair"], "answers": answers}
    if kind == "rank":
        return {"question": row["text"], "choices": row["choices"], "answer": label}
    if kind == "tag":
        return {"tokens": row["tokens"], "tags": [names[i] for i in label]}
    return {"text": row["text"], "label": [names[i] for i in label] if kind == "multilabel" else label}


def write_files(kind: str, folder: Path) -> Path:
    for split in SPLITS:
        rows = TASKS[kind].rows(split).to_pylist()
        lines = [json.dumps(plain_row(kind, row)) + "\n" for row in rows]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return folder


def study_file(kind: str, folder: Path, corpus: Path) -> dict[str, Any]:
    tune = {"preset": "finetune", "updates": 6, "batch_rows": 8, "max_length": 48, "evaluate_every": 3}
    joint = {"preset": "tlm-joint", "updates": 3, "mix": {"documents": 2, "task": 1}, "batch_tokens": 256}
    return {
        "name": kind,
        "seeds": 2,
        "task": {"kind": kind, "path": str(folder)},
        "corpus": str(corpus),
        "encoder": {"scratch": "tiny", "vocabulary": 512},
        "arms": {
            "finetune": {"stages": [tune]},
            "random": {"documents": {"kind": "random", "max_tokens": 400}, "stages": [joint, tune]},
        },
        "engine": {"workers": 1},
    }


Made = Callable[[str], tuple[dict[str, Any], Study]]


@pytest.fixture(scope="module")
def studies(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A study file of a kind, and the finished study; that of classification is in test_study_runner."""

    @cache
    def make_study(kind: str) -> tuple[dict[str, Any], Study]:
        settings = study_file(kind, write_files(kind, tmp_path_factory.mktemp(kind)), data / "corpus.jsonl")
        return settings, run(parse_config(settings, "study.yaml"), runs=tmp_path_factory.mktemp("runs"))

    return make_study


METRIC = {"multilabel": "micro_f1", "regress": "pearson", "rank": "accuracy", "tag": "entity_f1", "span": "f1"}
SAID = {"multilabel": "micro-F1", "regress": "Pearson's r", "rank": "accuracy", "tag": "entity F1", "span": "F1"}
TITLES = {"multilabel": ("Labels", "label", "rows"), "tag": ("Types of entities", "type", "entities")}


@OTHERS
def test_a_study_of_every_kind_ends_in_a_verdict(kind: str, studies: Made) -> None:
    folder, verdict = studies(kind)[1].folder, studies(kind)[1].verdict.to_json()
    assert (verdict["metric"], verdict["split"], verdict["seeds"]) == (METRIC[kind], "test", [0, 1])
    linear = ["linear"] if kind != "span" else []
    assert list(verdict["arms"]) == ["finetune", "random", *linear]
    asked = {(c["arm"], c["baseline"]) for c in verdict["comparisons"]}
    assert asked == {("random", "finetune"), *((arm, "linear") for arm in ("finetune", "random") if linear)}
    lines = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    for arm, about in verdict["arms"].items():
        values = [s["values"][METRIC[kind]] for s in lines if s["arm"] == arm and s["split"] == "test"]
        assert len(values) == (1 if arm == "linear" else 2)
        assert about["per_seed"] == pytest.approx(values)
    for line in lines:
        assert (line["kind"], line["confusion"], line["counted"]) == (kind, [], TITLES.get(kind, ("", "", ""))[2])
        types = {"multilabel": LABELS["multilabel"], "tag": ("chess",)}.get(kind, ())
        assert tuple(sorted(line["per_label"])) == tuple(sorted(types))
    notes = json.loads((folder / "manifest.json").read_text())["notes"]
    assert any("no linear model" in note for note in notes) == (kind == "span")


@OTHERS
def test_the_report_speaks_of_what_was_measured(kind: str, studies: Made) -> None:
    page, text = Page(studies(kind)[1].report), (studies(kind)[1].folder / "report.md").read_text()
    assert f"{SAID[kind]} on test (60 rows)" in page.text
    assert f"points of {SAID[kind]}" in " ".join(text.split())
    words = page.text.replace("config.yaml", "").partition("every default written out")[0] + text
    if "f1" not in METRIC[kind]:
        assert "F1" not in words
    assert "taken for" not in words
    assert not re.search(r"\b(nan|inf|None)\b|macro_f1|entity_f1|exact_match", words)
    ids = {attributes.get("id") for _, attributes in page.elements}
    title, noun, counted = TITLES.get(kind, ("", "", ""))
    assert ("labels" in ids) == bool(title)
    if title:
        assert page.rows(f"F1 of each {noun}")[noun][0] == counted
        assert f"{title.lower()}, documents and settings stand in" in " ".join(text.split())


@OTHERS
def test_a_second_run_does_nothing_twice(kind: str, studies: Made) -> None:
    settings, study = studies(kind)
    again = run(parse_config(settings, "study.yaml"), runs=study.folder.parent)
    artifacts = json.loads((study.folder / "manifest.json").read_text())["artifacts"]
    assert {artifact["status"] for artifact in artifacts} == {"reused"}
    assert again.verdict == study.verdict


ANSWERED = {
    "multilabel": {"labels", "probabilities"}, "regress": {"score"}, "rank": {"choice", "probabilities"},
    "tag": {"tags", "probabilities"}, "span": {"answer", "probability"},
}  # fmt: skip


@OTHERS
def test_predict_answers_rows_as_evaluate_does(kind: str, studies: Made) -> None:
    settings, study = studies(kind)
    model, file = study.folder / "models" / "random" / "seed-1", Path(settings["task"]["path"]) / "test.jsonl"
    result = CliRunner().invoke(app, ["predict", str(model), str(file)], catch_exceptions=False)
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(answers) == 60
    assert set(answers[0]) == ANSWERED[kind]
    task = load_task(settings["task"]["path"], kind=kind)
    said = [_in_our_terms(kind, answer, task) for answer in answers]
    ours = [
        [int(row[0]) if kind == "rank" else np.asarray(row).tolist() for row in found.predicted]
        for path in (study.folder / "artifacts").glob("score-*")
        if (found := _test_answers(path, task)) is not None
    ]
    assert len(ours) == 4
    assert any(_same(kind, said, one) for one in ours)


def _in_our_terms(kind: str, answer: Any, task: Task) -> Any:
    if kind == "multilabel":
        return [label in answer["labels"] for label in task.labels]
    if kind == "tag":
        return [task.labels.index(tag) for tag in answer["tags"]]
    return answer[{"regress": "score", "rank": "choice", "span": "answer"}[kind]]


def _same(kind: str, one: Any, other: Any) -> bool:
    return bool(one == pytest.approx(other, rel=1e-4)) if kind == "regress" else bool(one == other)


def _test_answers(folder: Path, task: Task) -> Any:
    inputs = json.loads((folder / "done.json").read_text())["inputs"]
    return load_answers(folder, task, "test") if inputs["split"] == "test" else None


@pytest.mark.parametrize("kind", ["rank", "tag", "span"])
def test_predict_names_what_is_missing(kind: str, studies: Made) -> None:
    model = studies(kind)[1].folder / "models" / "finetune" / "seed-0"
    missing = {"rank": "choices", "tag": "tokens", "span": "text_pair"}[kind]
    with pytest.raises(ArtifactError, match=rf"with .*{missing}; found rows with text"):
        next(predict(model, iter([{"text": "which is of chess"}])))


@pytest.mark.parametrize(
    ("kind", "said"), [("tag", "words of 3 tags;"), ("regress", "a number;"), ("classify", "3 lab")]
)
def test_the_plan_says_what_rows_have(kind: str, said: str) -> None:
    one = Band.exactly(1.0)
    arms = {"a": (StagePlan("tune", 1, 1.0, one, one),)}
    plan = Plan("s", {"train": 60, "dev": 9}, kind, len(LABELS[kind]), 0, (), arms, (), 1, 1, 1, 1, *[one] * 5)
    assert f"60 train, 9 dev rows with {said}" in plan.to_text()


# -- answers and scores, without training ------------------------------------------------------------------------------


def guesses(task: Task, rng: np.random.Generator) -> tuple[Any, Any]:
    """Answers to the test rows, some right and some wrong, as a model of the kind gives them."""
    rows = task.rows("test")
    gold, many = kind_of(task).gold(rows, task.labels), len(rows)
    luck = rng.random(many) < 0.5
    if task.kind == "classify":
        return np.where(luck, gold, rng.integers(3, size=many)), rng.random((many, 3), np.float32)
    if task.kind == "multilabel":
        sure = rng.random(gold.shape, np.float32)
        return np.where(luck[:, None], gold, sure >= 0.5), sure
    if task.kind == "regress":
        return gold + rng.normal(size=many) * 300, np.zeros((many, 0), np.float32)
    if task.kind == "span":
        said = [a[0] if a and right else "the mast" for a, right in zip(gold, luck, strict=True)]
        return said, rng.random((many, 1), np.float32)
    widths = [len(row) for row in (rows["choices"] if task.kind == "rank" else gold)]
    sure = [rng.random(width, np.float32) for width in widths]
    if task.kind == "rank":
        return [np.argsort(-each) for each in sure], sure
    return [np.where(right, tags, 0) for tags, right in zip(gold, luck, strict=True)], sure


@EVERY_KIND
def test_answers_are_read_back_as_they_were(kind: str, tmp_path: Path) -> None:
    task = TASKS[kind]
    before = score(task, "test", *guesses(task, np.random.default_rng(0)))
    save_answers(before, task, tmp_path)
    after = load_answers(tmp_path, task, "test")
    assert after.values == before.values
    for name in ("gold", "predicted", "probabilities"):
        one, other = getattr(before, name), getattr(after, name)
        assert type(one) is type(other)
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True)), name
        assert getattr(one, "dtype", None) == getattr(other, "dtype", None)
    assert score_line("a", 0, after, task) == score_line("a", 0, before, task)
    json.dumps(score_line("a", 0, after, task), allow_nan=False)


@EVERY_KIND
def test_a_task_is_read_back_as_it_was(kind: str, tmp_path: Path) -> None:
    folder = write_files(kind, tmp_path)
    task = load_task(folder, kind=kind)
    (tmp_path / "saved").mkdir()
    save_task(task, tmp_path / "saved")
    again = load_saved_task(tmp_path / "saved")
    assert again == task
    assert again.fingerprint == task.fingerprint
    assert all(again.tables[split].schema == task.tables[split].schema for split in SPLITS)


def tagged(names: list[str], gold: list[list[int]]) -> Task:
    table = pa.table({"text": ["-"] * len(gold), "tokens": [["w"] * len(row) for row in gold], "label": gold})
    return Task("t", "tag", "accuracy", tuple(names), {"test": table})


def test_labels_of_tags_are_types_of_entities_where_tags_mark_such() -> None:
    task = tagged(["O", "B-PER", "I-PER", "B-LOC"], [[1, 2, 0], [3, 0, 1]])
    said = [np.array([1, 2, 3]), np.array([0, 0, 1])]
    line = score_line("a", 0, score(task, "test", said, [np.ones(3)] * 2), task)
    assert line["counted"] == "entities"
    assert line["per_label"] == {
        "PER": {"f1": 1.0, "precision": 1.0, "recall": 1.0, "support": 2},
        "LOC": {"f1": 0.0, "precision": 0.0, "recall": 0.0, "support": 1},
    }
    bare = tagged(["B", "I", "O"], [[0, 1, 2]])
    assert list(score_line("a", 0, score(bare, "test", [np.array([0, 1, 2])], [np.ones(3)]), bare)["per_label"]) == [
        "entity"
    ]


def test_labels_of_other_tags_are_the_tags_and_entities_are_not_spoken_of() -> None:
    task = tagged(["NOUN", "VERB"], [[0, 1, 0]])
    line = score_line("a", 0, score(task, "test", [np.array([0, 0, 0])], [np.ones(3)]), task)
    assert line["counted"] == "words"
    assert line["per_label"]["NOUN"] == {"f1": pytest.approx(0.8), "precision": 2 / 3, "recall": 1.0, "support": 2}
    assert set(line["values"]) == {"accuracy", "token_macro_f1"}


def test_a_metric_of_what_no_row_has_is_not_spoken_of() -> None:
    """A model that is always right would score 0 on it."""
    task = TASKS["span"]
    said = [accepted[0] if accepted else "" for accepted in kind_of(task).gold(task.rows("test"), task.labels)]
    all_of_them = score_line("a", 0, score(task, "test", said, np.ones((60, 1))), task)["values"]
    assert all_of_them == dict.fromkeys(("f1", "exact_match", "f1_answerable", "recall_unanswerable"), 1.0)
    answerable = task.rows("test").filter(pa.array([bool(row) for row in task.rows("test")["label"].to_pylist()]))
    some = replace(task, tables={"test": answerable})
    said = [text for text in said if text]
    assert set(score_line("a", 0, score(some, "test", said, np.ones((len(said), 1))), some)["values"]) == {
        "f1",
        "exact_match",
        "f1_answerable",
    }


def test_every_metric_has_a_name_that_people_write() -> None:
    known = {metric for kind in KINDS.values() for metric in kind.metrics}
    assert set(METRICS) <= known
    assert not any("_" in metric_name(metric) for metric in known)
    for kind in KINDS.values():
        assert len({metric_name(metric) for metric in kind.metrics}) == len(kind.metrics)


# -- the linear model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", LINEAR_MODELS)
def test_the_linear_model_learns_what_words_give_away_without_test_rows(kind: str) -> None:
    task = make(kind, 100)
    linear = Linear(task.sealed())
    found = score(task, "test", *linear.answers(task, "test"))
    assert found.value > {"multilabel": 0.7, "rank": 0.7, "regress": 0.8}.get(kind, 0.85), found.values
    assert linear.settings in LINEAR_MODELS[kind].grid
    again = Linear(task).answers(task, "test")
    assert all(np.array_equal(a, b) for a, b in zip(again[0], found.predicted, strict=True))


def test_the_linear_model_of_a_very_large_task_keeps_to_its_means(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make("classify", 100).sealed()
    family, many = LINEAR_MODELS["classify"], sum(len(text.split()) for text in task.texts("train")) * len(task.labels)
    assert family.tried(task) == family.grid
    monkeypatch.setattr("trivium.study.linear._WORK", many // 2)
    assert family.tried(task) == family.few
    assert Linear(task).settings in family.few
    monkeypatch.setattr("trivium.study.linear_texts._WEIGHTS", 30)
    assert len(_vectorizer(family.few[0], 3).fit(task.texts("train")).vocabulary_) == 10


def test_a_label_that_train_never_or_always_has_is_said_never_or_always() -> None:
    table = pa.table({"text": ["a rook", "a mast", "the keel"], "label": [[0, 2], [2], [2]]})
    task = Task("t", "multilabel", "micro_f1", ("x", "never", "always"), {"train": table, "dev": table})
    said, sure = Linear(task).answers(task, "dev")
    assert said[:, 1:].tolist() == [[False, True]] * 3
    assert sure[:, 1:].tolist() == [[0.0, 1.0]] * 3


def test_the_linear_model_of_choices_sees_what_they_share_with_the_question() -> None:
    """Which words are right depends on the question alone."""
    words, rng = ["rook", "mast", "oven", "keel", "pawn", "salt"], np.random.default_rng(0)

    def row() -> dict[str, Any]:
        two = rng.choice(words, 2, replace=False).tolist()
        label = int(rng.integers(2))
        return {"text": f"which has {two[label]}", "choices": [f"a {word}" for word in two], "label": label}

    rows = [row() for _ in range(60)]
    table = pa.table({name: [each[name] for each in rows] for name in rows[0]})
    task = Task("t", "rank", "accuracy", ("score",), {"train": table, "dev": table})
    linear = Linear(task)
    assert linear.dev == 1.0
    said, sure = linear.answers(task, "dev")
    for order, chances in zip(said, sure, strict=True):
        assert sorted(order) == [0, 1]
        assert chances[order[0]] == chances.max()
    assert [float(chances.sum()) for chances in sure] == pytest.approx([1.0] * 60)


def test_shapes_of_words() -> None:
    assert [shape(word) for word in ("WHO", "Iguazu", "x2", "-")] == ["A", "Aa", "a0", "-"]


# -- rows to be answered -----------------------------------------------------------------------------------------------


def jsonl(folder: Path, *rows: Mapping[str, Any]) -> Path:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "rows.jsonl"


TWO = ["a rook", "a mast"]


@pytest.mark.parametrize(
    ("row", "read"),
    [
        ({"tokens": TWO}, {"tokens": TWO}),
        ({"text": "a", "tokens": TWO}, {"text": "a", "tokens": TWO}),
        ({"text": "a", "words": 7}, {"text": "a"}),  # how many, not which
        ({"question": "q", "context": "c", "id": 1}, {"text": "q", "text_pair": "c"}),
        ({"question": "q", "sentence": "c"}, {"text": "q", "text_pair": "c"}),
        ({"question": "q", "options": TWO}, {"text": "q", "choices": TWO}),
        ({"text": "q", "choices": {"text": TWO, "label": ["A", "B"]}}, {"text": "q", "choices": TWO}),
        ({"text": "q", "choices": [{"text": t} for t in TWO], "label": 1}, {"text": "q", "choices": TWO}),
        ({"sent1": "q", "sent2": "She", "ending0": "a", "ending1": "b"}, {"text": "q", "choices": ["She a", "She b"]}),
    ],
)
def test_what_a_file_has_is_handed_over(row: Any, read: Any, tmp_path: Path) -> None:
    assert list(read_texts(jsonl(tmp_path, row, row))) == [read, read]


def test_tagged_sentences_are_read_from_columns(tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text("EU B-ORG\nrejects O\n\nPeter B-PER\n")
    assert list(read_texts(tmp_path / "a.conll")) == [{"tokens": ["EU", "rejects"]}, {"tokens": ["Peter"]}]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"tokens": []}, "row 2, column 'tokens': expected a list of words"),
        ({"tokens": ["a", ""]}, "row 2, column 'tokens': expected words, found nothing"),
        ({"tokens": "a b"}, "row 2, column 'tokens': expected a list of words, found 'a b'"),
    ],
)
def test_a_row_without_words_is_refused(row: Any, said: str, tmp_path: Path) -> None:
    rows = read_texts(jsonl(tmp_path, {"tokens": ["a"]}, row))
    next(rows)
    with pytest.raises(DataError, match=re.escape(said)):
        next(rows)


def test_a_row_without_choices_is_refused(tmp_path: Path) -> None:
    rows = read_texts(jsonl(tmp_path, {"text": "q", "choices": TWO}, {"text": "q", "choices": ["one"]}))
    next(rows)
    with pytest.raises(DataError, match="row 2, column 'choices': expected at least 2 choices"):
        next(rows)
