"""Telling the task from the corpus among somebody's files."""

import json
from pathlib import Path
from typing import Any

import pytest

from trivium.data import load_corpus, load_task, sniff
from trivium.errors import DataError


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
