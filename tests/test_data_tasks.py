"""Labelled tasks: which columns, labels and splits are meant, what is carved, and what is said about it."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import write_lines as write
from trivium.core import SPLITS, Task
from trivium.data import fingerprint64, load_task, normal, read_texts
from trivium.data.files import DataFile
from trivium.data.hub import HubSplit, hub_splits
from trivium.data.splits import Row, carve
from trivium.errors import ConfigError, DataError, TriviumError

Rows = list[dict[str, Any]]


pytestmark = pytest.mark.usefixtures("here")


def numbered(n: int, start: int = 0, labels: str = "ab") -> Rows:
    return [{"text": f"text number {i}", "label": labels[i % len(labels)]} for i in range(start, start + n)]


def reviews(**splits: Rows) -> str:
    for split, rows in splits.items():
        write(f"reviews/{split}.jsonl", rows)
    return "reviews"


def refused(expected: type[TriviumError], message: str) -> Any:
    return pytest.raises(expected, match=f"^{re.escape(message)}$")


# -- the table --------------------------------------------------------------------------------------------------------


def test_a_folder_of_splits_becomes_a_task() -> None:
    path = reviews(train=numbered(6), validation=numbered(2, 6), test=numbered(4, 8))
    task = load_task(path)
    assert (task.name, task.kind, task.metric, task.labels, task.notes) == (
        "reviews",
        "classify",
        "macro_f1",
        ("a", "b"),
        (),
    )
    assert list(task.tables) == ["train", "dev", "test"]
    assert task.rows("dev").to_pylist() == [
        {"text": "text number 6", "label": 0, "file": "validation.jsonl", "row": 1},
        {"text": "text number 7", "label": 1, "file": "validation.jsonl", "row": 2},
    ]
    assert task.rows("test").schema.field("label").type == pa.int64()


def test_a_pair_has_a_second_text_column() -> None:
    rows = [{"premise": f"one {i}", "hypothesis": f"other {i}", "label": i % 2} for i in range(20)]
    task = load_task(write("nli.jsonl", rows))
    assert task.rows("train").column_names == ["text", "text_pair", "label", "file", "row"]
    assert all(re.fullmatch(r"one (\d+)\nother \1", text) for text in task.texts("train"))


def test_metric_name_columns_and_labels_can_be_said() -> None:
    rows = [{"body": f"text {i}", "stars": i % 2, "label": "ignored"} for i in range(10)]
    columns = {"text": "body", "label": "stars"}
    task = load_task(write("a.jsonl", rows), metric="mcc", name="stars", columns=columns, labels=[1, 0])
    assert (task.metric, task.name, task.labels) == ("mcc", "stars", ("1", "0"))


def test_a_mapping_names_the_files() -> None:
    paths = {"train": write("x/a.jsonl", numbered(6)), "validation": write("y/b.jsonl", numbered(2, 6))}
    task = load_task(paths)
    assert task.name == "a"
    assert task.rows("dev")["file"].to_pylist() == ["y/b.jsonl"] * 2
    assert "test" not in task.tables


def test_shards_are_one_split_in_order() -> None:
    path = reviews(
        **{"train-00001-of-00002": numbered(4, 4), "train-00000-of-00002": numbered(4), "dev": numbered(2, 8)}
    )
    assert load_task(path).texts("train") == [f"text number {i}" for i in range(8)]


def test_the_fingerprint_knows_rows_but_not_the_place() -> None:
    path = reviews(train=numbered(6), dev=numbered(2, 6))
    one = load_task(path).fingerprint
    Path("moved").mkdir()
    Path("reviews").rename("moved/reviews")
    assert load_task("moved/reviews").fingerprint == one
    write("moved/reviews/dev.jsonl", numbered(2, 7))
    assert load_task("moved/reviews").fingerprint != one


# -- columns ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "meant"),
    [
        (("sentence", "label"), ("sentence",)),
        (("Text ", "LABEL"), ("Text ",)),
        (("text", "Text", "label"), ("text",)),
        (("text", "sentence", "label", "class"), ("text",)),
        (("sentence1", "sentence2", "sentence", "idx", "label"), None),
        (("question", "sentence", "label"), ("question", "sentence")),
        (("text_pair", "text", "category"), ("text", "text_pair")),
    ],
)
def test_usual_names_are_recognised_if_there_is_no_doubt(found: tuple[str, ...], meant: tuple[str, ...] | None) -> None:
    label = next(name for name in found if name.lower() in ("label", "category"))
    path = write("a.jsonl", [{name: f"{name} {i}" for name in found} | {label: i % 2} for i in range(12)])
    if meant is None:
        with pytest.raises(DataError, match=r"of which sentence1 \+ sentence2 and sentence could be meant"):
            load_task(path)
        return
    first = load_task(path).rows("train").to_pylist()[0]
    texts = [first[role] for role in ("text", "text_pair") if role in first]
    assert texts == [f"{name} {first['row'] - 1}" for name in meant]


SAY = "Say which it is in the study file: task.columns: {text: ..., label: ...} (the first line of a csv or tsv must "


@pytest.mark.parametrize(
    ("row", "columns", "message"),
    [
        (
            {"review": "good", "label": 1},
            None,
            "a.jsonl: expected one column that is plainly the text, found the columns review, label. "
            f"{SAY}name the columns).",
        ),
        (
            {"text": "good", "target": 1, "class": 2},
            None,
            "a.jsonl: expected one column that is plainly the label, found the columns text, target, class, of which "
            f"target and class could be meant. {SAY}name the columns).",
        ),
        (
            {"review": "good", "label": 1},
            {"text": "reviews"},
            "a.jsonl: expected a column 'reviews' for the text, as task.columns or the training file has it, found the "
            "columns review, label. Did you mean 'review'? Correct task.columns or the file.",
        ),
        (
            {"text": 5, "label": 1},
            None,
            "a.jsonl row 1, column 'text': expected text, found 5 (int). Correct the row, or name another column as "
            "the text.",
        ),
        (
            {"text": "half \ud800", "label": 1},
            None,
            "a.jsonl row 1, column 'text': expected text in Unicode, found half of a surrogate pair, \\ud800. Write "
            "the file again with a JSON library that escapes whole characters.",
        ),
        (
            {"text": "a\0", "label": 1},
            None,
            "a.jsonl row 1, column 'text': expected text, found a NUL character. Take it out; no text has one.",
        ),
        (
            {"text": "good", "label": 3.8},
            None,
            "a.jsonl row 1, column 'label': expected a label: text, a whole number, true or false, found 3.8 (float). "
            "Correct the row, or name another column as the label: task.columns: {label: ...}.",
        ),
    ],
)
def test_a_column_or_value_that_is_not_what_it_should_be(
    row: dict[str, Any], columns: dict[str, str] | None, message: str
) -> None:
    with refused(DataError, message):
        load_task(write("a.jsonl", [row] * 3), columns=columns)


def test_a_test_file_without_labels_is_refused() -> None:
    path = reviews(train=numbered(6), test=[{"text": "new"}])
    message = (
        "reviews/test.jsonl: expected a column 'label' for the label, as task.columns or the training file has it, "
        "found the columns text. Correct task.columns or the file; a file without labels is no dev or test split, so "
        "move it away."
    )
    with refused(DataError, message):
        load_task(path)


# -- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["pos", "neg", "neutral"], ("neg", "neutral", "pos")),
        ([10, 9, -1], ("-1", "9", "10")),
        (["10", " 9 ", "1.5"], ("1.5", "9", "10")),
        (["10", "9", "x"], ("10", "9", "x")),
        ([1.0, 0.0], ("0", "1")),
        ([True, False], ("False", "True")),
    ],
)
def test_labels_are_sorted_whatever_the_order_of_rows(given: list[Any], expected: tuple[str, ...]) -> None:
    rows = [{"text": f"text {i} {j}", "label": label} for i in range(5) for j, label in enumerate(given)]
    for order in (rows, rows[::-1]):
        assert load_task(write("a.jsonl", order)).labels == expected


def labelled(path: str, names: list[str], labels: list[int], start: int = 0) -> str:
    """A Parquet file with a column that ``datasets`` calls a ClassLabel."""
    features = {"text": {"_type": "Value"}, "label": {"_type": "ClassLabel", "names": names}}
    table = pa.table({"text": [f"text {i}" for i in range(start, start + len(labels))], "label": labels})
    note = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    Path(path).parent.mkdir(exist_ok=True)
    pq.write_table(table.replace_schema_metadata(note), path)
    return path


def test_names_of_a_class_label_are_kept_in_their_order() -> None:
    labelled("r/train.parquet", ["world", "sports", "biz"], [0, 1, 2] * 4)
    labelled("r/dev.parquet", ["biz", "world"], [0, 1, -1], 100)  # other numbers, the same names; -1 is no label
    task = load_task("r")
    assert task.labels == ("world", "sports", "biz")
    assert [task.labels[i] for i in task.rows("dev")["label"].to_pylist()] == ["biz", "world"]
    assert task.notes[0] == "r/dev.parquet: 1 of 3 rows dropped because column 'label' is empty: row 3."


def test_an_index_without_a_name_is_refused() -> None:
    message = (
        "a.parquet row 3, column 'label': expected an index into the 2 label names of the file (x, y), found 2. "
        "Correct the row, or the names in the file's metadata."
    )
    with refused(DataError, message):
        load_task(labelled("a.parquet", ["x", "y"], [0, 1, 2]))


def test_a_label_that_train_never_saw_is_refused_with_a_guess() -> None:
    path = reviews(
        train=[{"text": f"text {i}", "label": ("neg", "positive")[i % 2]} for i in range(6)],
        dev=[{"text": "new", "label": "neg"}, {"text": "newer", "label": "postive"}],
    )
    message = (
        "reviews/dev.jsonl row 2, column 'label': expected one of the 2 labels seen in train (neg, positive), found "
        "'postive'. Did you mean 'positive'? Fix the row, or list the labels in the study file: "
        "task.labels: [neg, positive, postive]."
    )
    with refused(DataError, message):
        load_task(path)
    task = load_task(path, labels=["neg", "positive", "postive"])
    assert task.labels == ("neg", "positive", "postive")
    assert "labels without a training row: postive." in task.notes


def test_listed_labels_bind_the_training_rows_too() -> None:
    path = write("a.jsonl", numbered(9, labels="abc"))
    with pytest.raises(DataError, match=r"^a.jsonl row 3, .* expected one of the 2 labels listed \(b, a\), found 'c'"):
        load_task(path, labels=["b", "a"])


def test_one_label_is_nothing_to_learn() -> None:
    message = (
        "a.jsonl, column 'label': expected at least 2 different labels to learn, found only 'x'. Add rows with another "
        "label, or name another column: task.columns: {label: ...}."
    )
    with refused(DataError, message):
        load_task(write("a.jsonl", numbered(9, labels="x")))


# -- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"kind": "clasify"},
            "task.kind: unknown kind 'clasify'. Did you mean 'classify'? Known are classify, multilabel, regress, "
            "rank, tag, span.",
        ),
        (
            {"columns": {"txt": "text"}},
            "task.columns: unknown name 'txt'. Did you mean 'text'? Known are text, text_pair, label, each followed by "
            "the column of the file that it is called by there.",
        ),
        ({"labels": ["a", "a"]}, "task.labels: expected at least 2 different labels, found [a, a]."),
        ({"labels": ["a"]}, "task.labels: expected at least 2 different labels, found [a]."),
    ],
)
def test_arguments_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    with refused(ConfigError, message):
        load_task(write("a.jsonl", numbered(9)), **arguments)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (("train", "tset"), "task.path: unknown split 'tset'. Did you mean 'test'? Known are train, dev and test."),
        (("dev", "test"), "task.path: no 'train' among dev, test; a task needs rows to train on."),
    ],
)
def test_a_mapping_with_wrong_split_names(splits: tuple[str, ...], message: str) -> None:
    path = write("a.jsonl", numbered(9))
    with refused(ConfigError, message):
        load_task(dict.fromkeys(splits, path))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            ["training.csv"],
            "r: expected a file of training rows, named train.csv, train.jsonl, train.parquet, …, found training.csv. "
            "Rename it, give the file itself as task.path, or name the files: "
            "task.path: {train: ..., dev: ..., test: ...}.",
        ),
        (
            ["train.csv", "dev.csv", "val.jsonl"],
            "r: expected one file for the dev split, found dev.csv, val.jsonl. Move the others away, or name the files:"
            " task.path: {train: ..., dev: ..., test: ...}.",
        ),
    ],
)
def test_a_folder_with_wrong_split_names(files: list[str], message: str) -> None:
    Path("r").mkdir()
    for file in files:
        Path("r", file).write_text("text,label\na,b\n")
    with refused(DataError, message):
        load_task("r")


# -- notes ------------------------------------------------------------------------------------------------------------


def test_rows_without_text_or_label_are_counted_not_lost() -> None:
    rows = numbered(30)
    for i in (1, 4, 5, 9, 12, 20):
        rows[i]["text"] = (None, "", " \n ", "\u00a0")[i % 4]
    rows[2]["label"] = " "
    rows[3]["label"] = None
    task = load_task(reviews(train=rows, dev=numbered(4, 30)))
    assert task.notes == (
        "reviews/train.jsonl: 6 of 30 rows dropped because column 'text' is empty: row 2, 5, 6, 10, 13 and 1 more.",
        "reviews/train.jsonl: 2 of 30 rows dropped because column 'label' is empty: row 3, 4.",
        "test: there is none. The verdict is about dev, which also chooses weights and so flatters.",
    )
    assert task.rows("train")["row"].to_pylist() == [i + 1 for i in range(30) if i not in (1, 2, 3, 4, 5, 9, 12, 20)]


def test_texts_are_kept_to_the_letter() -> None:
    texts = ["  two  spaces ", "Line\nbreak", "tab\t", "!?"]
    train = [{"text": text, "label": i % 2} for i, text in enumerate(texts)]
    assert load_task(reviews(train=train, dev=train)).texts("train") == texts


def test_a_split_without_labels_is_done_without() -> None:
    task = load_task(reviews(train=numbered(40), test=[{"text": "new", "label": None}] * 3))
    assert "test: no row is labelled, so it is done without." in task.notes
    assert sum(rows.num_rows for rows in task.tables.values()) == 40


def test_no_usable_row_to_train_on() -> None:
    message = (
        "a.jsonl: expected rows with text in column 'text' and label in column 'label', found none in which these are "
        "filled. Fill them, or name other columns: task.columns: {text: ..., label: ...}."
    )
    with refused(DataError, message):
        load_task(write("a.jsonl", [{"text": "", "label": "x"}] * 3))


def test_files_that_are_no_split_are_named() -> None:
    path = reviews(train=numbered(6), dev=numbered(2, 6), test_unlabeled=[{"text": "x"}], extra=[{"text": "x"}])
    Path(path, "README.txt").write_text("about")
    assert load_task(path).notes[0] == "reviews: named like no split, left aside: extra.jsonl, test_unlabeled.jsonl."


def test_inputs_that_are_in_train_too_are_noted() -> None:
    dev = [{"text": "Text, number 0!", "label": "b"}, {"text": "fresh", "label": "a"}]
    task = load_task(reviews(train=numbered(6), dev=dev, test=numbered(3, 3)))
    end = "rows have a text that is also in train (the same but for case, spaces and punctuation)."
    assert task.notes == (f"dev: 1 of 2 {end}", f"test: 3 of 3 {end}")
    assert task.rows("dev").num_rows == 2


# -- carving ----------------------------------------------------------------------------------------------------------


def placed(task: Task) -> dict[int, str]:
    """The split of every row."""
    return {row: split for split in task.tables for row in task.rows(split)["row"].to_pylist()}


def test_train_alone_gives_dev_and_test_stratified() -> None:
    rows = [{"text": f"text {i}", "label": "rare" if i % 10 == 0 else "common"} for i in range(1000)]
    task = load_task(write("a.jsonl", rows))
    counts = {split: Counter(task.rows(split)["label"].to_pylist()) for split in SPLITS}
    assert counts == {"train": {0: 648, 1: 72}, "dev": {0: 72, 1: 8}, "test": {0: 180, 1: 20}}
    assert task.notes == (
        "test: carved out of train, 200 of 1000 rows, stratified by label, seed 0; rows with the same text stay in the "
        "same split.",
        "dev: carved out of train, 80 of 800 rows, stratified by label, seed 0; rows with the same text stay in the "
        "same split.",
    )
    assert sorted(placed(task)) == list(range(1, 1001))
    assert placed(load_task(reviews(train=rows))) == placed(task)  # a folder with only train is no other thing


def test_a_given_test_split_is_never_touched() -> None:
    task = load_task(reviews(train=numbered(40), test=numbered(7, 40)))
    assert {split: rows.num_rows for split, rows in task.tables.items()} == {"train": 36, "dev": 4, "test": 7}
    assert task.texts("test") == [f"text number {i}" for i in range(40, 47)]


def test_a_task_that_is_only_learned_beside_another_keeps_all_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "sub.csv"
    path.write_text("text,label\n" + "".join(f"t{i},{i % 2}\n" for i in range(50)), encoding="utf-8")
    task = load_task(path, carve=False)
    assert list(task.tables) == ["train"]
    assert len(task.rows("train")) == 50
    assert not task.notes


def test_the_seed_decides_what_is_carved() -> None:
    path = write("a.jsonl", numbered(200))
    assert placed(load_task(path, seed=1)) == placed(load_task(path, seed=1)) != placed(load_task(path, seed=2))


def test_no_more_than_the_most_is_carved() -> None:
    task = load_task(write("a.jsonl", numbered(30_000)))
    assert {split: rows.num_rows for split, rows in task.tables.items()} == {"train": 23000, "dev": 2000, "test": 5000}


def test_a_split_may_be_kept_small() -> None:
    path = reviews(train=numbered(200, labels="aaab"), dev=numbered(40, 200), test=numbered(40, 240))
    task = load_task(path, rows={"train": 20, "test": 100})
    assert Counter(task.rows("train")["label"].to_pylist()) == {0: 15, 1: 5}
    assert task.notes == ("train: 20 of 200 rows kept, stratified by label, seed 0.",)
    assert [len(task.rows(split)) for split in ("dev", "test")] == [40, 40]
    same, other = load_task(path, rows=20), load_task(path, rows=20, seed=1)
    assert same.rows("train") == task.rows("train") != other.rows("train")


@pytest.mark.parametrize("rows", [{"train": 0}, {"validation": 9}])
def test_rows_of_no_split_cannot_be_kept(rows: Any) -> None:
    with pytest.raises(ConfigError, match=r"task\.rows: expected train, dev or test and a number of at least 1"):
        load_task(reviews(train=numbered(20)), rows=rows)


def test_too_little_to_carve() -> None:
    message = (
        "a.jsonl: expected at least one label with two different texts, to carve a test split, found 2 rows without "
        "one. Add rows, or give the test split in a file of its own."
    )
    with refused(DataError, message):
        load_task(write("a.jsonl", numbered(2)))


SPELLINGS = st.builds(
    lambda number, spell: spell(f"text {number}"),
    st.integers(0, 25),
    st.sampled_from([str, str.upper, "{}!".format, "  {}".format]),
)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(SPELLINGS, st.sampled_from("abc")), min_size=1, max_size=80),
    st.floats(0.01, 0.99),
    st.integers(1, 50),
    st.integers(0, 5),
)
def test_carving_takes_whole_texts_and_leaves_every_label_behind(
    pairs: list[tuple[str, str]], share: float, most: int, seed: int
) -> None:
    file = DataFile(Path("a.csv"), "a.csv")
    rows = [Row(text, None, label, (fingerprint64(text), 0), file, i) for i, (text, label) in enumerate(pairs)]
    left, taken = carve(rows, share, most, np.random.default_rng(seed))
    assert (left, taken) == carve(rows, share, most, np.random.default_rng(seed))
    assert sorted(left + taken, key=lambda row: row.number) == rows
    for part in (left, taken):
        assert [row.number for row in part] == sorted(row.number for row in part)
    assert not {normal(row.text) for row in left} & {normal(row.text) for row in taken}

    labels: dict[str, set[str]] = {}
    for row in rows:
        labels.setdefault(normal(row.text), set()).add(row.label)
    for label in {row.label for row in rows}:
        clear = {normal(row.text) for row in rows if labels[normal(row.text)] == {label}}
        assert label in {row.label for row in left}
        assert (label in {row.label for row in taken}) == (len(clear) > 1)
    assert all(len(labels[normal(row.text)]) == 1 for row in taken)


# -- the hub, from folders on this machine ----------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A data set as it lies on the hub: splits, and label names in the front matter of its README."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "owner" / "news"
    folder.mkdir(parents=True)
    for split, start, n in (("train", 0, 30), ("validation", 30, 6), ("test", 36, 4)):
        rows = [{"sentence": f"text {i}", "label": -1 if split == "test" else i % 2} for i in range(start, start + n)]
        write(f"{folder}/{split}.jsonl", rows)
    (folder / "README.md").write_text(
        "---\ndataset_info:\n  features:\n  - name: sentence\n    dtype: string\n  - name: label\n    dtype:\n"
        "      class_label:\n        names:\n          '0': world\n          '1': sports\n---\n"
    )
    return "hub:owner/news"


def test_a_data_set_of_the_hub_becomes_a_task(hub: str) -> None:
    task = load_task(hub)
    assert (task.name, task.labels) == ("news", ("world", "sports"))
    assert task.texts("dev") == [f"text {i}" for i in range(30, 36)]
    assert task.rows("dev")["file"].to_pylist() == ["hub:owner/news/validation"] * 6
    assert task.notes[:2] == (
        "hub:owner/news/test: 4 of 4 rows dropped because column 'label' is empty: row 1, 2, 3, 4.",
        "test: no row is labelled, so it is done without.",
    )
    assert load_task(hub).fingerprint == task.fingerprint


def test_splits_that_are_none_of_ours_are_named(hub: str) -> None:
    write("owner/news/extra.jsonl", [{"sentence": "x", "label": 0}])
    Path("owner/news/test.jsonl").unlink()
    Path("owner/news/README.md").write_text(
        "---\nconfigs:\n- config_name: small\n  data_files:\n"
        "  - {split: train, path: train.jsonl}\n  - {split: extra, path: extra.jsonl}\n---\n"
    )
    task = load_task("hub:owner/news:small")
    assert task.notes[0] == "hub:owner/news:small: the splits extra were left aside."
    assert set(task.tables) == {"train", "dev", "test"}


@pytest.mark.parametrize("address", ["hub:no/such/place", "hub:owner/script", "hub:owner/news:other"])
def test_an_address_that_leads_nowhere(hub: str, address: str) -> None:
    Path("owner/script").mkdir()
    Path("owner/script/script.py").write_text("")
    with pytest.raises(DataError, match=f"^{address}: expected a data set of the Hugging Face hub"):
        load_task(address)


def test_a_data_set_without_train_is_refused(hub: str) -> None:
    Path("owner/news/train.jsonl").unlink()
    with pytest.raises(
        DataError, match=r"^hub:owner/news: expected a split 'train', found the splits validation, test"
    ):
        load_task(hub)


def test_a_split_of_the_hub_is_a_source_like_a_file(hub: str) -> None:
    split = hub_splits(hub)["train"]
    assert (split.name, split.stem) == ("hub:owner/news/train", "news")
    with split.open() as table:
        assert table.names == {"label": ("world", "sports")}
        assert list(table.read(["label", "sentence"])) == [(i + 1, [i % 2, f"text {i}"]) for i in range(30)]
        assert table.position() == split.size > 0


def test_the_content_of_a_hub_split_decides_what_it_feeds() -> None:
    def fed(texts: list[str]) -> bytes:
        pieces: list[bytes] = []
        HubSplit(datasets.Dataset.from_dict({"text": texts}), "x", "x").feed(lambda piece: pieces.append(bytes(piece)))
        return b"".join(pieces)

    assert fed(["a", "b"]) == fed(["a", "b"])
    assert len({fed(["a", "b"]), fed(["b", "a"]), fed(["a"]), fed(["ab", ""])}) == 4


# -- texts to be labelled ---------------------------------------------------------------------------------------------


def test_texts_are_read_in_order_one_mapping_for_each_row() -> None:
    assert list(read_texts(write("a.jsonl", [{"text": "one"}, {"text": " two "}]))) == [
        {"text": "one"},
        {"text": " two "},
    ]
    pairs = [{"id": 1, "premise": "a", "hypothesis": "b"}]
    assert list(read_texts(write("a.jsonl", pairs))) == [{"text": "a", "text_pair": "b"}]
    assert list(read_texts(write("a.jsonl", pairs), "hypothesis")) == [{"text": "b"}]
    Path("a.txt").write_text("one\n\ntwo\n")
    assert [row["text"].strip() for row in read_texts("a.txt")] == ["one", "two"]


@pytest.mark.parametrize(
    ("rows", "column", "message"),
    [
        (
            [{"body_text": "a"}],
            None,
            "a.jsonl: expected one column that is plainly the text, found the columns body_text. Say which it is with "
            "--text (the first line of a csv or tsv must name the columns).",
        ),
        (
            [{"text": "a"}],
            "txt",
            "a.jsonl: expected a column 'txt' for the text, found the columns text. Did you mean 'text'? "
            "Correct --text or the file.",
        ),
    ],
)
def test_columns_of_texts_are_known_before_the_first_row(rows: Rows, column: str | None, message: str) -> None:
    with refused(DataError, message):
        read_texts(write("a.jsonl", rows), column)


def test_every_row_to_be_labelled_needs_a_text() -> None:
    rows = read_texts(write("a.jsonl", [{"text": "a"}, {"text": " "}]))
    assert next(rows) == {"text": "a"}
    with refused(
        DataError, "a.jsonl row 2, column 'text': expected a text, found nothing. Fill it, or delete the row."
    ):
        next(rows)
