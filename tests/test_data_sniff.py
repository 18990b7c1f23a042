"""Telling the task from the corpus among somebody's files."""

import json
from pathlib import Path
from typing import Any

import pytest

from trivium.config import load_config
from trivium.data import load_corpus, load_task, sniff
from trivium.errors import DataError
from trivium.study.scaffold import write_study


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(path: str, rows: list[dict[str, Any]]) -> str:
    Path(path).parent.mkdir(exist_ok=True, parents=True)
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def task(path: str, n: int = 40, text: str = "text", label: str = "label") -> str:
    return write(path, [{text: f"a text of words {i} {path}", label: f"kind {i % 2}"} for i in range(n)])


def corpus(path: str, n: int = 50, text: str = "text") -> str:
    return write(path, [{text: f"some document with words {i}", "url": f"page-{i}"} for i in range(n)])


@pytest.mark.parametrize("turned", [False, True])
def test_a_task_and_a_corpus_in_any_order(turned: bool) -> None:
    paths = [task("reviews.jsonl"), corpus("pile.jsonl")]
    found = sniff(paths[::-1] if turned else paths)
    assert found.task_path == "reviews.jsonl"
    assert found.columns == {"text": "text", "label": "label"}
    assert found.labels == ("kind 0", "kind 1")
    assert found.rows == {"train": 28, "dev": 4, "test": 8}
    assert (found.corpus, found.corpus_columns) == (("pile.jsonl",), {})
    assert [note.split(":")[0] for note in found.notes] == ["test", "dev"]


def test_a_folder_with_a_train_file_is_the_task_and_what_else_is_in_it_is_not() -> None:
    task("d/train.jsonl")
    task("d/test.jsonl", 10)
    corpus("d/pile-1.jsonl")
    corpus("d/pile-2.jsonl")
    Path("d/book.txt").write_text("a book\n")
    found = sniff(["d"])
    assert found.task_path == "d"
    assert found.corpus == ("d/pile-1.jsonl", "d/pile-2.jsonl", "d/book.txt")  # d/*.jsonl would catch the test split
    assert found.rows == {"train": 36, "dev": 4, "test": 10}


def test_files_of_one_kind_are_a_pattern() -> None:
    corpus("pile/v1.0.jsonl")
    corpus("pile/v1.1.jsonl")
    corpus("loose.jsonl")
    assert sniff([task("reviews.jsonl"), "pile"]).corpus == ("pile/*.jsonl",)
    assert sniff([task("reviews.jsonl"), "pile/*.jsonl", "l*.jsonl"]).corpus == ("pile/*.jsonl", "loose.jsonl")


def test_what_is_written_can_be_loaded() -> None:
    task("d/train.jsonl")
    corpus("d/pile-1.jsonl")
    corpus("d/pile-2.jsonl")
    found = sniff(["d"])
    assert load_task(found.task_path, columns=found.columns).labels == found.labels
    documents = load_corpus(found.corpus, columns=dict(found.corpus_columns) or None, cache=Path("cache"))
    assert len(documents) == 100


def test_columns_without_usual_names_are_guessed_and_it_is_said() -> None:
    found = sniff([task("stars.jsonl", text="review_body", label="stars"), corpus("pile.jsonl", text="html")])
    assert found.columns == {"text": "review_body", "label": "stars"}
    assert found.corpus_columns == {"text": "html"}
    assert found.notes[:2] == (
        "stars.jsonl: columns guessed from their values: {'text': 'review_body', 'label': 'stars'}.",
        "pile.jsonl: its text is guessed to be the column 'html'.",
    )


def test_of_several_tasks_the_split_one_wins_then_the_smallest() -> None:
    task("folder/train.jsonl", 200)
    task("small.jsonl", 20)
    task("large.jsonl", 5000)
    found = sniff(["small.jsonl", "large.jsonl", "folder"])
    assert (found.task_path, found.corpus) == ("folder", ("large.jsonl",))
    assert "small.jsonl is labelled too: left aside." in found.notes
    assert "large.jsonl is labelled too: read as corpus." in found.notes
    assert sniff(["large.jsonl", "small.jsonl"]).task_path == "small.jsonl"


def test_a_corpus_whose_text_is_in_doubt_is_said() -> None:
    write("pile.jsonl", [{"title": f"a title of words {i}", "story": f"a story of words {i}"} for i in range(9)])
    found = sniff([task("reviews.jsonl"), "pile.jsonl"])
    assert found.corpus_columns == {}
    assert found.notes[0] == "pile.jsonl: say which column is the text: corpus.columns: {text: ...}."


def test_nothing_with_labels() -> None:
    message = (
        r"^pile.jsonl: expected something with a text and a label column, found pile.jsonl with the columns text, url. "
        r"Give labelled rows, or rename the column of the labels to 'label'.$"
    )
    with pytest.raises(DataError, match=message):
        sniff([corpus("pile.jsonl")])


def test_a_broken_file_is_named() -> None:
    Path("broken.jsonl").write_text("{\n")
    with pytest.raises(DataError, match=r"^broken.jsonl row 1 \(line 1\): expected valid JSON"):
        sniff([task("reviews.jsonl"), "broken.jsonl"])


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(DataError, match=r"^reveiws.jsonl: expected data files .*Did you mean 'reviews.jsonl'\?"):
        sniff([task("reviews.jsonl"), "reveiws.jsonl"])


ANSWERS = [{"text": "context", "answer_start": 2}]
SWAG = {"sent1": "he runs", "sent2": "she", "ending0": "runs", "ending1": "walks"}
OF_EACH_KIND: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("tag", {"tokens": ["a", "b"], "ner_tags": ["O", "B-X"]}, {"tokens": "tokens", "label": "ner_tags"}),
    (
        "span",
        {"question": "what?", "context": "a context", "answers": ANSWERS},
        {"text": "question", "text_pair": "context", "label": "answers"},
    ),
    (
        "rank",
        {"question": "what?", "choices": ["a", "b"], "answer": "B"},
        {"text": "question", "choices": "choices", "label": "answer"},
    ),
    (
        "rank",
        SWAG | {"label": 1},
        {"text": "sent1", "lead": "sent2", "choices": ("ending0", "ending1"), "label": "label"},
    ),
    ("multilabel", {"text": "a text", "labels": ["x", "y"]}, {"text": "text", "label": "labels"}),
    ("regress", {"sentence1": "a", "sentence2": "b", "score": 0.5}, None),
    ("classify", {"text": "a text", "text_pair": "a", "label": "a"}, None),
    ("classify", {"text": "a text", "label": 3.0}, None),
    ("classify", {"text": "a text", "label": "1.5"}, None),
]


def of_kind(kind: str, row: dict[str, Any], n: int = 40) -> list[dict[str, Any]]:
    """Rows like this one, no two the same, and with as many labels as a kind needs."""
    rows = []
    for i in range(n):
        texts = {name: f"{value} {i}" for name, value in row.items() if isinstance(value, str) and len(value) > 5}
        new = row | texts | {"question": f"what {i}?"} if "question" in row else row | texts
        if kind == "tag":
            new["tokens"] = [f"a{i}", "b"]
        if kind == "multilabel":
            new["labels"] = row["labels"][: i % 3]
        if kind == "regress":
            new |= {"sentence1": f"one {i}", "score": i / 4}
        if kind == "classify":
            new["label"] = type(row["label"])(row["label"]) if i % 2 else type(row["label"])("2")
        if kind == "span":
            new["context"] = f"a context {i}"
        rows.append(new)
    return rows


@pytest.mark.parametrize(("kind", "row", "columns"), OF_EACH_KIND)
def test_the_kind_is_seen_from_columns_and_values(
    kind: str, row: dict[str, Any], columns: dict[str, Any] | None
) -> None:
    found = sniff([write("d.jsonl", of_kind(kind, row)), corpus("pile.jsonl")])
    assert (found.kind, found.task_path, found.corpus) == (kind, "d.jsonl", ("pile.jsonl",))
    assert columns is None or found.columns == columns
    said = f"d.jsonl: taken for a task of kind '{kind}' by its columns and their values."
    assert (said in found.notes) == (kind != "classify")
    task = load_task(found.task_path, kind=found.kind, columns=found.columns)
    assert (task.labels, task.metric) == (found.labels, found.metric)


def test_files_of_their_own_format_are_seen_too() -> None:
    Path("ner").mkdir()
    Path("ner/train.conll").write_text("".join(f"word{i} B-X\nis O\n\n" for i in range(30)))
    found = sniff(["ner", corpus("pile.jsonl")])
    assert (found.task_path, found.kind, found.columns) == ("ner", "tag", {"tokens": "0", "label": "1"})
    paragraphs = [
        {"context": f"page {i}: Ada", "qas": [{"question": "who?", "answers": [{"text": "Ada", "answer_start": 9}]}]}
        for i in range(10, 30)
    ]
    Path("squad.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    assert sniff(["squad.json", "pile.jsonl"]).kind == "span"


@pytest.mark.parametrize(("kind", "row", "_"), OF_EACH_KIND)
def test_a_study_file_for_each_kind_can_be_read_again(kind: str, row: dict[str, Any], _: Any) -> None:
    write("d.jsonl", of_kind(kind, row))
    said = write_study(["d.jsonl", corpus("pile.jsonl")], Path("study.yaml"))
    assert f"task    d.jsonl: {kind}, " in said
    task = load_config("study.yaml").task
    loaded = load_task(str(task.path), kind=task.kind, metric=task.metric, columns=task.columns)
    assert loaded.kind == kind
    assert ("# labels:" in Path("study.yaml").read_text()) == (kind in ("classify", "multilabel", "tag"))
