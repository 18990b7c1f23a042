"""The nouns: a sealed task has no test rows, fingerprints see every change, and a selection is what was saved."""

import json
import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium.core import Corpus, Queries, Score, Selection, Stage, Task, digest
from trivium.errors import ArtifactError, ConfigError, LeakError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def spelled(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


@given(VALUES, VALUES)
@settings(max_examples=100, deadline=None)
def test_digests_are_equal_where_values_are(first: Any, second: Any) -> None:
    assert (digest(first) == digest(second)) == (spelled(first) == spelled(second))
    assert digest(first) == digest(json.loads(json.dumps(first)))


def test_a_digest_never_changes_and_does_not_see_the_order_of_keys() -> None:
    """Artifacts of old runs are found again only as long as this holds."""
    value = {"b": [1, 2.5, None], "a": "naïve 文"}
    assert digest(value) == digest(dict(reversed(value.items()))) == "abae1f299fb8a214648c"
    for number in (math.nan, math.inf):
        with pytest.raises(ValueError, match="not JSON compliant"):
            digest(number)


def test_a_sealed_task_has_no_test_rows(task: Task) -> None:
    sealed = task.sealed()
    assert set(sealed.tables) == {"train", "dev"}
    assert sealed.rows("train") is task.rows("train")
    assert sealed.sealed().fingerprint == sealed.fingerprint
    assert set(task.tables) == {"train", "dev", "test"}, "the task itself is left as it was"
    for ask in (sealed.rows, sealed.texts):
        with pytest.raises(LeakError, match=r"task 'topics': the test split .* only train, dev\. Only `evaluate` may"):
            ask("test")


def changed(column: str, values: Callable[[list[Any]], list[Any]]) -> Callable[[Task], Task]:
    def change(task: Task) -> Task:
        table = task.tables["train"]
        place = table.column_names.index(column)
        new = table.set_column(place, column, pa.array(values(table[column].to_pylist())))
        return replace(task, tables={**task.tables, "train": new})

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda task: replace(task, name="other"),
        lambda task: replace(task, kind="tag"),
        lambda task: replace(task, metric="mcc"),
        lambda task: replace(task, labels=task.labels[::-1]),
        lambda task: task.sealed(),
        lambda task: replace(task, tables={**task.tables, "dev": task.tables["test"]}),
        lambda task: replace(task, tables={**task.tables, "dev": task.tables["dev"].slice(1)}),
        changed("text", lambda texts: [*texts[:-1], texts[-1] + " "]),
        changed("label", lambda labels: [*labels[1:], labels[0]]),
    ],
)
def test_a_tasks_fingerprint_sees_every_change(task: Task, change: Callable[[Task], Task]) -> None:
    assert change(task).fingerprint != task.fingerprint


def test_a_tasks_fingerprint_does_not_see_what_no_result_depends_on(task: Task) -> None:
    chunked = {split: pa.concat_tables([rows.slice(0, 7), rows.slice(7)]) for split, rows in task.tables.items()}
    assert chunked["train"]["text"].num_chunks == 2
    assert replace(task, tables=chunked).fingerprint == task.fingerprint
    assert replace(task, notes=("a dev split was carved",)).fingerprint == task.fingerprint
    for column in ("file", "row"):
        assert changed(column, lambda values: values[::-1])(task).fingerprint == task.fingerprint
        assert changed(column, lambda values: values[:1] * len(values))(task).fingerprint == task.fingerprint


def test_the_texts_of_a_pair_come_together_and_queries_are_training_texts_alone(task: Task) -> None:
    rows = pa.table({"text": ["a", "b"], "text_pair": ["c", "d\ne"], "label": [0, 1]})
    pairs = replace(task, tables={"train": rows, "test": rows})
    assert pairs.texts("train") == ["a\nc", "b\nd\ne"]
    assert Queries.of(pairs) == Queries("topics", ("a\nc", "b\nd\ne"))
    assert Queries.of(task).texts == tuple(task.texts("train"))
    assert Queries.of(task.sealed()) == Queries.of(task)


def corpus_of(texts: list[str]) -> Corpus:
    """Documents in chunks of two, as a large file would have them."""
    sources = pa.array(["web", "book"] * len(texts))[: len(texts)].dictionary_encode()
    columns = {
        "text": pa.array(texts, pa.large_string()),
        "source": sources,
        "words": [t.count(" ") + 1 for t in texts],
    }
    return Corpus("c", "f", pa.Table.from_batches(pa.table(columns).to_batches(max_chunksize=2)))


@given(st.lists(st.text(max_size=8), min_size=1, max_size=9), st.data())
@settings(max_examples=40, deadline=None)
def test_documents_come_in_the_order_in_which_they_are_asked_for(texts: list[str], data: st.DataObject) -> None:
    corpus = corpus_of(texts)
    ids = data.draw(st.lists(st.integers(0, len(texts) - 1), max_size=12))
    assert len(corpus) == len(texts)
    assert corpus.texts(ids) == corpus.texts(np.array(ids, np.int64)) == [texts[i] for i in ids]
    assert corpus.sources(ids) == [("web", "book")[i % 2] for i in ids]
    assert corpus.words[ids].tolist() == [texts[i].count(" ") + 1 for i in ids]
    assert corpus.words.dtype == np.int32


CHOSEN = st.tuples(
    st.integers(0, 2**40),
    st.floats(allow_infinity=False),
    st.integers(0, 99),
    st.integers(-1, 99),
    st.lists(st.text(max_size=5), max_size=3).map(tuple),
)


def selection_of(chosen: list[Any], how: Any = None, corpus: Corpus | None = None) -> Selection:
    ids, scores, ranks, queries, terms = zip(*chosen, strict=True) if chosen else ((),) * 5
    numbers = [np.array(column, np.int64) for column in (ids, ranks, queries)]
    return Selection(numbers[0], np.array(scores, np.float64), numbers[1], numbers[2], terms, how or {}, corpus)


@given(st.lists(CHOSEN, max_size=5), st.dictionaries(st.text(max_size=4), VALUES, max_size=3))
@settings(max_examples=40, deadline=None)
def test_a_selection_is_what_was_saved(tmp_path_factory: pytest.TempPathFactory, chosen: list[Any], how: Any) -> None:
    folder = tmp_path_factory.mktemp("selection")
    selection = selection_of(chosen, how)
    selection.save(folder)
    loaded = Selection.load(folder)
    for name in ("ids", "scores", "ranks", "queries"):
        before, after = getattr(selection, name), getattr(loaded, name)
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)
    assert (loaded.terms, loaded.how, len(loaded)) == (selection.terms, how, len(chosen))


def test_a_selection_that_remembers_its_corpus_knows_its_texts(tmp_path: Path) -> None:
    corpus = corpus_of(["zero", "one", "two"])
    selection = selection_of([(2, 0.5, 0, 1, ("two",)), (0, math.nan, 1, -1, ())], corpus=corpus)
    selection.save(tmp_path)
    assert selection.texts() == Selection.load(tmp_path, corpus).texts() == ["two", "zero"]


def no_table(folder: Path) -> None:
    (folder / "selection.parquet").unlink()


def half_a_table(folder: Path) -> None:
    whole = (folder / "selection.parquet").read_bytes()
    (folder / "selection.parquet").write_bytes(whole[: len(whole) // 2])


def other_table(folder: Path) -> None:
    pq.write_table(pa.table({"id": [1]}), folder / "selection.parquet")


def no_reasons(folder: Path) -> None:
    (folder / "selection.json").unlink()


def half_the_reasons(folder: Path) -> None:
    (folder / "selection.json").write_text('{"counts": {')


@pytest.mark.parametrize("damage", [no_table, half_a_table, other_table, no_reasons, half_the_reasons])
def test_a_damaged_selection_is_refused_with_a_way_out(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    selection_of([(1, 2.0, 0, 0, ("a",))]).save(tmp_path)
    damage(tmp_path)
    with pytest.raises(ArtifactError, match=r"expected a selection .* found (.|\n)*Delete the folder and run again"):
        Selection.load(tmp_path)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({}, "stage 's': give exactly one of 'updates' and 'epochs'"),
        ({"updates": 1, "epochs": 1.0}, "stage 's': give exactly one of 'updates' and 'epochs'"),
        ({"mix": {}, "updates": 1}, "stage 's': 'mix' needs at least one stream"),
        ({"mix": {"task": 0}, "updates": 1}, r"stage 's': 'mix' needs .* found \{'task': 0\}"),
        ({"mix": {"task": 1, "text": 1}, "updates": 1}, r"unknown stream \['text'\]; known are task, documents"),
        ({"updates": 1, "batch_rows": 0}, "stage 's', batch_rows: expected at least 1, found 0"),
        ({"updates": 1, "lr": math.nan}, "stage 's', lr: expected a number from 0, found nan"),
    ],
)
def test_a_stage_that_makes_no_sense_is_refused(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Stage(**{"name": "s", "mix": {"task": 1}, **keys})


def test_nouns_cannot_be_changed(task: Task) -> None:
    for noun in (task, Stage("s", {"task": 1}, updates=1), corpus_of(["a"]), selection_of([])):
        with pytest.raises(FrozenInstanceError):
            noun.name = "other"  # type: ignore[union-attr, misc]


def test_a_scores_value_is_that_of_its_metric() -> None:
    nothing = np.zeros(0)
    score = Score("t", "dev", "mcc", {"accuracy": 0.9, "mcc": 0.8}, nothing, nothing, np.zeros((0, 2), np.float32))
    assert score.value == 0.8
