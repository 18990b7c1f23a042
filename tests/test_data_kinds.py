"""Every kind of task from files: what its table holds, what is refused, what is carved, and what is said about it."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import write_lines as write
from trivium.core import SPLITS, Task
from trivium.data import load_task
from trivium.data.labels import KINDS
from trivium.data.squad import detected
from trivium.data.tags import iob2
from trivium.errors import ConfigError, DataError, TriviumError

Rows = Sequence[dict[str, Any]]


pytestmark = pytest.mark.usefixtures("here")


def folder(**splits: Rows) -> str:
    for split, rows in splits.items():
        write(f"r/{split}.jsonl", rows)
    return "r"


def lines(path: str, text: str) -> str:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(text)
    return path


def numbered(n: int, start: int = 0, **columns: Any) -> list[dict[str, Any]]:
    """Rows with a text of their own; a column that is a list goes round."""
    return [
        {"text": f"text number {i}"} | {name: values[i % len(values)] for name, values in columns.items()}
        for i in range(start, start + n)
    ]


def refused(expected: type[TriviumError], message: str) -> Any:
    return pytest.raises(expected, match=f"^{re.escape(message)}")


def labels(task: Task, split: Any = "train") -> list[Any]:
    column: list[Any] = task.rows(split)["label"].to_pylist()
    return column


def by_row(task: Task, column: str = "label") -> list[Any]:
    """A column of all splits, in the order of the one file they came from."""
    rows = [row for split in task.tables for row in task.rows(split).to_pylist()]
    return [row[column] for row in sorted(rows, key=lambda row: row["row"])]


def assert_whole(task: Task, n: int) -> None:
    """Carved splits are a partition of the file's rows, and nobody's input is in two of them."""
    assert set(task.tables) == set(SPLITS)
    places = [row for split in task.tables for row in task.rows(split)["row"].to_pylist()]
    assert sorted(places) == list(range(1, n + 1))
    assert not any("also in train" in note for note in task.notes)


# -- several labels ---------------------------------------------------------------------------------------------------

SETS = [["b", "a"], [], ["c"], ["a", "a"], ["a", "b", "c"]]
INDICES = [[0, 1], [], [2], [0], [0, 1, 2]]


def flags(row: list[str]) -> dict[str, int]:
    return {name: int(name in row) for name in "abc"}


@pytest.mark.parametrize("separator", [";", ",", "|", " ; "])
def test_lists_strings_and_flags_say_the_same(separator: str) -> None:
    listed = load_task(write("a.jsonl", numbered(60, labels=SETS)), kind="multilabel")
    assert (listed.kind, listed.metric, listed.labels) == ("multilabel", "micro_f1", ("a", "b", "c"))
    assert by_row(listed) == [INDICES[i % 5] for i in range(60)]
    assert listed.rows("train").schema.field("label").type == pa.list_(pa.int64())
    joined = load_task(write("a.jsonl", numbered(60, labels=[separator.join(s) for s in SETS])), kind="multilabel")
    assert by_row(joined) == by_row(listed)
    assert joined.notes[0].startswith(f"a.jsonl: labels are taken to have '{separator.strip()}' between, as in 'b")
    rows = [{"text": f"text number {i}"} | flags(SETS[i % 5]) for i in range(60)]
    columns = {"label": ["a", "b", "c"]}
    flagged = load_task(write("a.jsonl", rows), kind="multilabel", columns=columns)
    assert (by_row(flagged), flagged.labels) == (by_row(listed), listed.labels)
    text = "text,a,b,c\n" + "".join(",".join(map(str, row.values())) + "\n" for row in rows)
    assert by_row(load_task(lines("a.csv", text), kind="multilabel", columns=columns)) == by_row(listed)


def test_columns_of_flags_keep_their_order() -> None:
    rows = [{"text": f"text {i}", "z": i % 2, "m": 0, "a": (i // 2) % 2} for i in range(40)]
    task = load_task(write("a.jsonl", rows), kind="multilabel", columns={"label": ["z", "m", "a"]})
    assert task.labels == ("z", "m", "a")
    assert "labels without a training row: m." in task.notes
    assert by_row(task)[3] == [0, 2]


def test_null_is_no_answer_and_an_empty_list_is_one() -> None:
    rows = [*numbered(20, labels=[["a"], []]), {"text": "new", "labels": None}]
    task = load_task(folder(train=rows, dev=numbered(2, 30, labels=[[]])), kind="multilabel")
    assert task.notes[0] == "r/train.jsonl: 1 of 21 rows dropped because column 'labels' is empty: row 21."
    assert labels(task, "dev") == [[], []]


def test_names_of_numbers_in_a_list_are_those_of_the_file() -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "labels": datasets.List(datasets.ClassLabel(names=["x", "y"]))}
    )
    rows = {"text": [f"text {i}" for i in range(30)], "labels": [[1], [0, 1], []] * 10}
    datasets.Dataset.from_dict(rows, features).to_parquet("a.parquet")
    task = load_task("a.parquet", kind="multilabel")
    assert task.labels == ("x", "y")
    assert by_row(task)[:3] == [[1], [0, 1], []]


@pytest.mark.parametrize(
    ("values", "columns", "message"),
    [
        (
            ["a;b", "a", "a,b"],
            None,
            "a.jsonl row 3, column 'label': expected one sign between labels in the whole file, ';' as in row 1, found "
            "',' in 'a,b'. Use one of ; | , throughout, or write lists in a .jsonl file.",
        ),
        (["a;b,c", "a", "b"], None, "a.jsonl row 1, column 'label': expected one sign between labels"),
        ([["a"], ["b", ""]], None, "a.jsonl row 2, column 'label': expected a list of labels, found an empty one"),
        ([["a"], [2.5]], None, "a.jsonl row 2, column 'label': expected a label: text, a whole number"),
        ([["a"], ["a"]], None, "a.jsonl, column 'label': expected at least 2 different label sets to learn"),
        ([0, 2], {"label": ["label"]}, "a.jsonl row 2, column 'label': expected 0 or 1, found 2 (int)."),
    ],
)
def test_labels_that_cannot_be(values: list[Any], columns: Any, message: str) -> None:
    with refused(DataError, message):
        load_task(write("a.jsonl", numbered(12, label=values)), kind="multilabel", columns=columns)


def test_a_label_of_several_that_train_never_saw() -> None:
    path = folder(train=numbered(6, label=[["a"], ["b", "a"]]), dev=numbered(2, 10, label=[["a"], ["a", "c"]]))
    message = "r/dev.jsonl row 2, column 'label': expected one of the 2 labels seen in train (a, b), found 'c'."
    with refused(DataError, message):
        load_task(path, kind="multilabel")
    assert load_task(path, kind="multilabel", labels=["c", "b", "a"]).labels == ("c", "b", "a")


def test_sets_of_labels_are_carved_alike_and_rare_ones_do_not_swell_a_split() -> None:
    rare = [[f"rare {i}", "x"] for i in range(40)]  # each once: together they are one stratum
    rows = numbered(440, labels=[["a"], ["a", "b"], [], ["a"]]) + [
        {"text": f"rare {i}", "labels": labels} for i, labels in enumerate(rare)
    ]
    task = load_task(write("a.jsonl", rows), kind="multilabel", labels=["a", "b", "x", *(r[0] for r in rare)])
    assert_whole(task, 480)
    test = Counter(str(row) for row in labels(task, "test"))
    assert (test["[0]"], test["[0, 1]"], test["[]"]) == (44, 22, 22)
    assert task.rows("test").num_rows == 96
    assert "stratified by set of labels" in task.notes[0]


# -- a number ---------------------------------------------------------------------------------------------------------


def test_numbers_are_floats_however_they_are_written() -> None:
    values = [1, 2.5, "3", " 4.25 ", "-1e-3", ".5", None, "", "NaN", float("nan")]
    task = load_task(write("a.jsonl", numbered(40, score=values)), kind="regress")
    assert (task.metric, task.labels) == ("pearson", ("score",))
    assert by_row(task) == [1.0, 2.5, 3.0, 4.25, -0.001, 0.5] * 4
    assert task.rows("train").schema.field("label").type == pa.float64()
    assert task.notes[0].startswith("a.jsonl: 16 of 40 rows dropped because column 'score' is empty: row 7, 8, 9, 10, ")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("good", "'good' (str)"),
        ("1_000", "'1_000' (str)"),
        ("1,5", "'1,5' (str)"),
        (True, "True (bool)"),
        ([1], "[1] (list)"),
        (float("inf"), "inf (float)"),
        ("1e999", "inf (float)"),
        ("inf", "'inf' (str)"),
    ],
)
def test_what_is_no_number_is_refused(value: Any, found: str) -> None:
    rows = [*numbered(5, label=[1.5, 2]), {"text": "x", "label": value}]
    message = (
        f"a.jsonl row 6, column 'label': expected a finite number, found {found}. Correct the row, or name another "
        "column as the label: task.columns: {label: ...}."
    )
    with refused(DataError, message):
        load_task(write("a.jsonl", rows), kind="regress")


def test_one_score_is_nothing_to_learn_and_scores_have_no_names() -> None:
    path = write("a.jsonl", numbered(9, label=[3]))
    with refused(DataError, "a.jsonl, column 'label': expected at least 2 different scores to learn, found only '3.0'"):
        load_task(path, kind="regress")
    with refused(ConfigError, "task.labels: tasks of this kind have no label names; leave them out."):
        load_task(path, kind="regress", labels=["a", "b"])


def test_scores_are_carved_from_every_part_of_the_scale() -> None:
    task = load_task(write("a.jsonl", numbered(1000, label=[i / 10 for i in range(1000)])), kind="regress")
    assert_whole(task, 1000)
    for split, most in (("test", 20), ("dev", 8)):
        tenths = Counter(int(score // 10) for score in labels(task, split))
        assert sorted(tenths) == list(range(10))
        assert max(tenths.values()) - min(tenths.values()) <= 2
        assert max(tenths.values()) <= most + 1


# -- multiple choice --------------------------------------------------------------------------------------------------

NAMES = ["red", "green", "blue"]


@pytest.mark.parametrize(
    "row",
    [
        {"choices": NAMES, "label": 2},
        {"choices": NAMES, "label": "2"},
        {"choices": NAMES, "label": 2.0},
        {"choices": NAMES, "answer": "C"},
        {"options": NAMES, "answer": "c"},
        {"choices": NAMES, "label": " blue "},
        {"choices": {"text": NAMES, "label": ["A", "B", "C"]}, "answerKey": "C"},
        {"choices": {"text": NAMES, "label": ["1", "2", "3"]}, "answerKey": "3"},
        {"choices": [{"label": a, "text": b} for a, b in zip("XYZ", NAMES, strict=True)], "answerKey": "Z"},
        {"choice0": "red", "choice1": "green", "choice2": "blue", "label": 2},
    ],
)
@pytest.mark.parametrize("question", ["question", "question_stem"])
def test_a_choice_can_be_said_in_many_ways(row: dict[str, Any], question: str) -> None:
    rows = [{question: f"which colour {i}?"} | row for i in range(30)]
    task = load_task(write("a.jsonl", rows), kind="rank")
    assert (task.metric, task.labels) == ("accuracy", ("score",))
    assert_whole(task, 30)
    first = task.rows("train").to_pylist()[0]
    assert list(first) == ["text", "choices", "label", "file", "row"]
    assert (first["text"], first["choices"], first["label"]) == (f"which colour {first['row'] - 1}?", NAMES, 2)
    assert task.rows("dev").schema.field("choices").type == pa.list_(pa.large_string())


def test_swag_and_columns_that_are_named() -> None:
    rows = [
        {"sent1": f"He runs {i}.", "sent2": "Then he", **{f"ending{j}": f"falls {j}" for j in range(4)}, "label": i % 4}
        for i in range(20)
    ]
    task = load_task(write("a.jsonl", rows), kind="rank")
    assert by_row(task, "choices")[0] == ["Then he falls 0", "Then he falls 1", "Then he falls 2", "Then he falls 3"]
    assert by_row(task, "text")[7] == "He runs 7."
    assert by_row(task) == [i % 4 for i in range(20)]
    text = "question,opa,opb,opc,cop\n" + "".join(f"which {i}?,one,two,{'three' if i else ''},1\n" for i in range(20))
    columns = {"choices": ["opa", "opb", "opc"], "label": "cop"}
    task = load_task(lines("a.csv", text), kind="rank", columns=columns)
    assert by_row(task, "choices")[:2] == [["one", "two"], ["one", "two", "three"]]
    assert by_row(task) == [1] * 20


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"choices": NAMES, "label": 3},
            "column 'label': expected an index from 0 to 2, the text of a choice, or a letter from A to C, found 3 "
            "beside 3 choices. Correct the row; an index counts from 0",
        ),
        ({"choices": NAMES, "label": "D"}, "column 'label': expected an index from 0 to 2"),
        ({"choices": NAMES, "label": "pink"}, "column 'label': expected an index from 0 to 2"),
        ({"choices": NAMES, "label": -2}, "column 'label': expected an index from 0 to 2"),
        ({"choices": NAMES, "label": True}, "column 'label': expected an index from 0 to 2"),
        (
            {"choices": ["1", "2", "3"], "label": "1"},
            "column 'label': expected an index from 0 to 2, the text of a choice, or a letter from A to C, found '1' "
            "beside 3 choices, which could be any of the choices 0, 1.",
        ),
        ({"choices": ["a b", "a b"], "label": "a b"}, "column 'label': expected an index from 0 to 1"),
        (
            {"choices": {"text": NAMES, "label": ["1", "2", "3"]}, "label": "0"},
            "column 'label': expected one of the labels of its choices (1, 2, 3), found '0'",
        ),
        ({"choices": ["one"], "label": 0}, "column 'choices': expected at least 2 choices, each a text, found 1"),
        ({"choices": ["one", " "], "label": 0}, "column 'choices': expected at least 2 choices, each a text, found 2"),
        ({"choices": ["one", 2], "label": 0}, "column 'choices': expected text, found 2 (int)"),
        ({"choices": "one two", "label": 0}, "column 'choices': expected a list of choices"),
    ],
)
def test_choices_that_cannot_be(row: dict[str, Any], message: str) -> None:
    rows = [{"text": "which?", "choices": NAMES, "label": 0}, {"text": "which one?"} | row]
    with refused(DataError, f"a.jsonl row 2, {message}"):
        load_task(write("a.jsonl", rows), kind="rank")


def test_a_number_is_an_index_even_where_choices_are_numbers() -> None:
    task = load_task(write("a.jsonl", numbered(20, choices=[["1", "2", "3"]], label=[1])), kind="rank")
    assert set(labels(task)) == {1}


def test_answers_kept_secret_and_choices_in_another_order() -> None:
    train = numbered(10, choices=[NAMES], label=[0])
    dev = [
        {"text": "Text number 3", "choices": NAMES[::-1], "label": 1},
        {"text": "text number 3", "choices": ["x", "y"], "label": 1},
    ]
    task = load_task(folder(train=train, dev=dev, test=numbered(3, choices=[NAMES], label=[-1])), kind="rank")
    assert "r/test.jsonl: 3 of 3 rows dropped because column 'label' is -1: row 1, 2, 3." in task.notes
    assert any(note.startswith("dev: 1 of 2 rows have a text that is also in train") for note in task.notes)
    assert "test" not in task.tables


# -- tags -------------------------------------------------------------------------------------------------------------

CONLL = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER

"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train.conll", CONLL),
        ("train.txt", CONLL),
        ("train.bio", CONLL.replace(" ", "\t")),
        ("train.iob2", CONLL.replace("\n", "\r\n")),
    ],
)
def test_columns_of_conll(name: str, text: str) -> None:
    lines(f"r/{name}", text * 20)
    lines("r/dev" + Path(name).suffix, text.rstrip())  # the last sentence needs no blank line
    task = load_task("r", kind="tag")
    assert (task.metric, task.labels) == ("entity_f1", ("B-ORG", "B-PER", "I-ORG", "I-PER", "O"))
    assert task.rows("dev").drop_columns(["file"]).to_pylist() == [
        {"text": "EU rejects", "tokens": ["EU", "rejects"], "label": [0, 4], "row": 1},
        {"text": "Peter Blackburn", "tokens": ["Peter", "Blackburn"], "label": [1, 3], "row": 2},
    ]
    assert task.rows("dev").schema.field("tokens").type == pa.list_(pa.large_string())
    assert "labels without a training row: I-ORG." in task.notes
    chunks = load_task("r", kind="tag", columns={"label": 2})
    assert chunks.labels == ("B-NP", "B-VP", "I-NP", "I-VP")
    speech = load_task("r", kind="tag", columns={"tokens": 0, "label": "1"})
    assert (speech.labels, speech.metric) == (("NNP", "VBZ"), "accuracy")


def test_conllu_takes_words_and_their_parts_of_speech() -> None:
    word = "{}\t{}\tx\t{}\tX{}\t_\t0\troot\t_\t_\n"
    sentence = "# text = vámonos al mar\n" + "".join(
        word.format(i, form, tag, tag)
        for i, form, tag in [("1-2", "al", "_"), (1, "a", "ADP"), (2, "el mar", "NOUN"), ("2.1", "gone", "VERB")]
    )
    text = "".join(sentence.replace("\ta\t", f"\t{letter}\t") + "\n" for letter in "abcdef")
    task = load_task(lines("a.conllu", text), kind="tag")
    assert by_row(task, "tokens") == [[letter, "el mar"] for letter in "abcdef"]
    assert task.labels == ("ADP", "NOUN")
    assert load_task("a.conllu", kind="tag", columns={"label": "xpos"}).labels == ("XADP", "XNOUN")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a O\nb X O\n",
            "a.conll row 1 (line 2): expected 2 columns, a token and what is known of it, found 3: 'b X O'. Put a tab",
        ),
        ("a\nb\n", "a.conll row 1 (line 1): expected 2 columns, a token and what is known of it, found 1: 'a'."),
        ("\n\n-DOCSTART- O\n\n", "a.conll (line 4): expected sentences, found no token."),
    ],
)
def test_conll_that_is_broken(text: str, message: str) -> None:
    with refused(DataError, message):
        load_task(lines("a.conll", text), kind="tag")


def tagged(*tags: Any, start: int = 0, column: str = "tags") -> list[dict[str, Any]]:
    return [{"tokens": [f"word{i}", *"xyz"[: len(row) - 1]], column: row} for i, row in enumerate(tags, start)]


def test_iob1_becomes_iob2_and_it_is_said() -> None:
    task = load_task(folder(train=tagged(*[["I-A", "I-A", "B-A"], ["B-A", "I-A"], ["O"]] * 3)), kind="tag")
    names = [[task.labels[i] for i in row] for row in by_row(task)]
    assert names[:3] == [["B-A", "I-A", "B-A"], ["B-A", "I-A"], ["O"]]
    assert task.notes[0] == (
        "r/train.jsonl: in 3 of 9 sentences an entity began with I- (IOB1); it begins with B- now (IOB2)."
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("AB"), st.integers(1, 3), st.integers(0, 2)), max_size=6))
def test_both_notations_of_the_same_entities_become_the_same(entities: list[tuple[str, int, int]]) -> None:
    one: list[str] = []
    two: list[str] = []
    for name, length, gap in entities:
        touching = bool(one) and one[-1].endswith(f"-{name}")
        one += [f"{'B' if touching and i == 0 else 'I'}-{name}" for i in range(length)] + ["O"] * gap
        two += [f"{'I' if i else 'B'}-{name}" for i in range(length)] + ["O"] * gap
    assert iob2(one) == iob2(two) == tuple(two)


@pytest.mark.parametrize(
    ("rows", "arguments", "message"),
    [
        ([["O"], ["O", "B-A"], ["I-A"]], {"labels": ["O", "I-A", "B-A"]}, None),
        (
            [["O"], ["O", "B-A"]],
            {"labels": ["O", "B-A", "I-A", "I-B"]},
            "r/train.jsonl, column 'tags': expected a tag B- for every tag I- among the labels listed, found none of "
            "B-B. List them in the study file: task.labels: [O, B-A, I-A, I-B, B-B].",
        ),
        ([["O"], ["O", None]], {}, "r/train.jsonl row 2, column 'tags': expected a tag for each token, found None for"),
        ([["O"], "O B-A"], {}, "r/train.jsonl row 2, column 'tags': expected a list of tags, found 'O B-A' (str)."),
        ([["O"], ["O"]], {}, "r/train.jsonl, column 'tags': expected at least 2 different tags to learn"),
        ([["BIG"], ["SMALL"]], {}, None),
    ],
)
def test_tags_that_may_and_may_not_be(rows: Any, arguments: dict[str, Any], message: str | None) -> None:
    path = folder(train=tagged(*rows), dev=tagged(["O"] if "O" in str(rows) else ["BIG"], start=9))
    if message is None:
        assert load_task(path, kind="tag", **arguments).labels == tuple(arguments.get("labels", ("BIG", "SMALL")))
        return
    with refused(DataError, message):
        load_task(path, kind="tag", **arguments)


def test_lists_of_two_lengths_and_types_unseen() -> None:
    rows = [{"tokens": ["a", "b"], "tags": ["O"]}]
    with refused(DataError, "a.jsonl row 1, column 'tags': expected a tag for each of the 2 tokens, found 1 tags."):
        load_task(write("a.jsonl", rows), kind="tag")
    path = folder(train=tagged(["B-A", "O"], ["O"]), dev=tagged(["B-A", "I-A"], ["B-B"], start=5))
    with refused(
        DataError, "r/dev.jsonl row 2, column 'tags': expected one of the 3 labels seen in train (B-A, I-A, O)"
    ):
        load_task(path, kind="tag")


def test_sentences_without_tokens_or_tags_are_left_out() -> None:
    rows = [*tagged(["O"], ["X"], ["X"]), {"tokens": [], "tags": []}, {"tokens": ["a", " "], "tags": ["O", "O"]}]
    task = load_task(folder(train=[*rows, {"tokens": ["a"], "tags": None}], dev=tagged(["X"], start=7)), kind="tag")
    assert task.notes[:3] == (
        "r/train.jsonl: 1 of 6 rows dropped because column 'tokens' is empty: row 4.",
        "r/train.jsonl: 1 of 6 rows dropped because a token in column 'tokens' is empty: row 5.",
        "r/train.jsonl: 1 of 6 rows dropped because column 'tags' is empty: row 6.",
    )


def test_of_several_columns_of_tags_one_must_be_named() -> None:
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "pos_tags": datasets.List(datasets.ClassLabel(names=["NOUN", "VERB"])),
            "ner_tags": datasets.List(datasets.ClassLabel(names=["O", "B-X", "I-X"])),
        }
    )
    rows = {
        "tokens": [["a", f"b{i}"] for i in range(20)],
        "pos_tags": [[0, 1]] * 20,
        "ner_tags": [[1, 2], [0, 1]] * 10,
    }
    datasets.Dataset.from_dict(rows, features).to_parquet("a.parquet")
    with pytest.raises(DataError, match="of which ner_tags and pos_tags could be meant"):
        load_task("a.parquet", kind="tag")
    task = load_task("a.parquet", kind="tag", columns={"label": "ner_tags"})
    assert task.labels == ("O", "B-X", "I-X")
    assert by_row(task)[:2] == [[1, 2], [0, 1]]


# -- answers in a passage ---------------------------------------------------------------------------------------------

CONTEXT = "Ève saw 👍 the EGFR gene, the gene."


def asked(n: int, start: int = 0, answers: Any = None, contexts: int | None = None) -> list[dict[str, Any]]:
    found = [{"text": "EGFR", "answer_start": 14}] if answers is None else answers
    return [
        {"question": f"Which gene {i}?", "context": f"{CONTEXT} Page {i % (contexts or 10**6)}.", "answers": found}
        for i in range(start, start + n)
    ]


def squad(rows: Rows) -> dict[str, Any]:
    paragraphs = [{"context": row["context"], "qas": [row | {"id": "x"}]} for row in rows]
    return {"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs[:5]}, {"paragraphs": paragraphs[5:]}]}


def mrqa(rows: Rows) -> str:
    def spans(row: dict[str, Any]) -> list[dict[str, Any]]:
        places = [(a["text"], a["answer_start"]) for a in row["answers"]]
        return [{"text": text.lower(), "char_spans": [[start, start + len(text) - 1]]} for text, start in places]

    passages = [
        {"context": row["context"], "qas": [{"question": row["question"], "detected_answers": spans(row)}]}
        for row in rows
    ]
    return "".join(json.dumps(line) + "\n" for line in [{"header": {"dataset": "x"}}, *passages])


def test_all_forms_of_questions_become_the_same_table() -> None:
    rows = asked(20)
    task = load_task(write("a.jsonl", rows), kind="span")
    assert (task.metric, task.labels) == ("f1", ("start", "end"))
    assert_whole(task, 20)
    assert by_row(task) == [[{"text": "EGFR", "start": 14}]] * 20
    assert by_row(task, "text")[3] == "Which gene 3?"
    assert by_row(task, "text_pair")[3] == f"{CONTEXT} Page 3."
    wanted = pa.list_(pa.struct({"text": pa.large_string(), "start": pa.int64()}))
    assert task.rows("train").schema.field("label").type == wanted
    columns = [{"text": ["EGFR"], "answer_start": [14]}] * 20
    pq.write_table(pa.Table.from_pylist([r | {"answers": a} for r, a in zip(rows, columns, strict=True)]), "a.parquet")
    nested = [{"text": ["egfr"], "char_spans": [{"start": [14], "end": [17]}]}] * 20
    hub = [r | {"answers": ["egfr"], "detected_answers": a} for r, a in zip(rows, nested, strict=True)]
    forms = [
        load_task("a.parquet", kind="span"),
        load_task(lines("one.json", json.dumps(squad(rows))), kind="span"),
        load_task(lines("many.json", json.dumps(squad(rows), indent=2)), kind="span"),
        load_task(lines("m.jsonl", mrqa(rows)), kind="span"),
        load_task(write("hub.jsonl", hub), kind="span"),
    ]
    for form in forms:
        assert form.rows("test").drop_columns("file") == task.rows("test").drop_columns("file")
        assert form.rows("train").drop_columns("file") == task.rows("train").drop_columns("file")


def test_an_answer_and_its_place_in_columns_of_their_own() -> None:
    text = "question,context,answer,start\n" + "".join(f"who {i}?,it is {i} Ève,Ève,{8 + i // 10}\n" for i in range(15))
    task = load_task(lines("a.csv", f"{text}why?,no reason,,\n"), kind="span", columns={"label": ["answer", "start"]})
    assert by_row(task)[-2:] == [[{"text": "Ève", "start": 9}], []]


def test_a_question_without_an_answer_has_an_empty_list() -> None:
    tree = squad(asked(10))
    tree["data"][0]["paragraphs"][0]["qas"][0] |= {"is_impossible": True, "answers": [], "plausible_answers": [1]}
    task = load_task(lines("a.json", json.dumps(tree)), kind="span")
    assert by_row(task)[:2] == [[], [{"text": "EGFR", "start": 14}]]
    tree["data"][0]["paragraphs"][0]["qas"][0]["answers"] = [{"text": "EGFR", "answer_start": 14}]
    with pytest.raises(DataError, match=r"^a.json row 1.*expected questions below their passage.*'is_impossible'"):
        load_task(lines("a.json", json.dumps(tree)), kind="span")
    with refused(DataError, "a.jsonl, column 'answers': expected questions with an answer, found none that has one."):
        load_task(write("a.jsonl", asked(9, answers=[])), kind="span")


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (
            [{"text": "EGFR", "answer_start": 30}],
            "expected the answer 'EGFR' at character 30 of the context, found 'ene.'; the context has it at 14. "
            "Correct answer_start: it counts characters (code points, not bytes) of the context from 0.",
        ),
        (
            [{"text": "gene", "answer_start": -19}],
            "expected the answer 'gene' at character -19 of the context, found 'Ève '; the context has it at 19 and 1 "
            "more places.",
        ),
        (
            [{"text": "p53", "answer_start": 14}],
            "expected the answer 'p53' at character 14 of the context, found 'EGF'; it",
        ),
        ([{"text": " ", "answer_start": 14}], "expected answers that are texts, found an empty one in"),
        ([{"text": "EGFR"}], 'expected answers, {"text": [...], "answer_start": [...]} or'),
        ([{"text": "EGFR", "answer_start": 1.5}], "expected answers, "),
        ({"text": ["EGFR"], "answer_start": []}, "expected answers, "),
        ("EGFR", "expected answers, "),
        (14, "expected answers, "),
    ],
)
@pytest.mark.parametrize("split", ["train", "dev"])
def test_an_answer_that_is_not_there_is_refused_everywhere(answers: Any, message: str, split: str) -> None:
    rows = {"train": asked(10), "dev": asked(4, 20)}
    rows[split] = [*rows[split], *asked(1, 30, answers=answers)]
    with refused(DataError, f"r/{split}.jsonl row {len(rows[split])}, column 'answers': {message}"):
        load_task(folder(**rows), kind="span")


@pytest.mark.parametrize(
    "answer",
    [
        {"text": "EGFR ", "answer_start": 14, "context": "Ève saw 👍 the EGFR"},  # the context was trimmed
        {"text": "EGFR", "answer_start": 16},  # and so at its beginning
        {"text": "E\N{COMBINING GRAVE ACCENT}ve", "answer_start": 0},  # it was normalised, the answer was not
    ],
)
def test_an_answer_a_few_characters_away_is_left_out_of_train_and_refused_to_judge(answer: dict[str, Any]) -> None:
    (row,) = asked(1, 50, answers=[{"text": answer["text"], "answer_start": answer["answer_start"]}])
    row["context"] = answer.get("context", row["context"])
    task = load_task(folder(train=[*asked(10), row], dev=asked(3, 20)), kind="span")
    why = "an answer in column 'answers' stands a few characters away"
    assert task.notes[0] == f"r/train.jsonl: 1 of 11 rows dropped because {why}: row 11."
    with refused(DataError, "r/dev.jsonl row 4, column 'answers': expected the answer"):
        load_task(folder(train=asked(10), dev=[*asked(3, 20), row]), kind="span")


def test_questions_about_a_context_stay_in_one_split() -> None:
    task = load_task(write("a.jsonl", asked(300, contexts=60)), kind="span")
    assert_whole(task, 300)
    contexts = [set(task.rows(split)["text_pair"].to_pylist()) for split in SPLITS]
    assert [len(found) for found in contexts] == [44, 4, 12]
    assert len(set.union(*contexts)) == 60
    assert "at random, seed 0; rows with the same context stay in the same split." in task.notes[0]
    with refused(
        DataError, "b.jsonl: expected two different contexts, to carve a test split, found 9 rows without one."
    ):
        load_task(write("b.jsonl", asked(9, contexts=1)), kind="span")


def test_the_question_makes_an_input_not_the_context_alone() -> None:
    train, dev = asked(10, contexts=1), asked(4, 9, contexts=1)
    task = load_task(folder(train=train, dev=dev), kind="span")
    assert any(note.startswith("dev: 1 of 4 rows have a text that is also in train") for note in task.notes)


CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.text(CHARACTERS, max_size=8), st.text(CHARACTERS, min_size=1, max_size=5), st.text(CHARACTERS)),
        min_size=1,
        max_size=5,
    )
)
def test_a_span_of_mrqa_is_where_the_answer_stands(parts: list[tuple[str, str, str]]) -> None:
    for before, answer, after in parts:
        context = before + answer + after
        given_answers = [{"text": answer, "char_spans": [[len(before), len(before) + len(answer) - 1]]}]
        (found,) = detected(given_answers, context)
        assert context[found["answer_start"] : found["answer_start"] + len(found["text"])] == found["text"] == answer


def test_a_tree_of_questions_that_breaks_off() -> None:
    tree = squad(asked(6))
    del tree["data"][1]["paragraphs"][0]["context"]
    with pytest.raises(DataError, match=r"^a.json row 6 .*SQuAD.*found KeyError: 'context'.*one object for each"):
        load_task(lines("a.json", json.dumps(tree)), kind="span")


# -- what all have in common ------------------------------------------------------------------------------------------

EXAMPLES: dict[str, Rows] = {
    "classify": numbered(80, label=["a", "b"]),
    "multilabel": numbered(80, label=[["a"], [], ["a", "b"]]),
    "regress": numbered(80, label=[i / 7 for i in range(80)]),
    "rank": numbered(80, choices=[["a", "b"], ["c", "d", "e"]], label=[0, 1]),
    "tag": tagged(*[["B-A", "I-A", "O"], ["O", "O"]] * 40),
    "span": asked(80),
}


@pytest.mark.parametrize("kind", KINDS)
def test_carving_is_a_partition_that_the_seed_decides(kind: str) -> None:
    path = write("a.jsonl", EXAMPLES[kind])
    one, again, other = (load_task(path, kind=kind, seed=seed) for seed in (1, 1, 2))
    assert_whole(one, 80)
    assert one.fingerprint == again.fingerprint != other.fingerprint
    assert abs(one.rows("test").num_rows - 16) <= 1
    assert abs(one.rows("dev").num_rows - 6) <= 1
    assert all(rows.schema == one.rows("train").schema for rows in one.tables.values())
    assert one.rows("train").column_names[-2:] == ["file", "row"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_input_stays_in_one_split(kind: str) -> None:
    rows = [row for row in EXAMPLES[kind][:40] for _ in range(3)]
    assert_whole(load_task(write("a.jsonl", rows), kind=kind), 120)


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_is_named_must_be_there(kind: str) -> None:
    path = write("a.jsonl", EXAMPLES[kind])
    with pytest.raises(DataError, match=r"^a.jsonl: expected a column 'lable' for the label, as task.columns"):
        load_task(path, kind=kind, columns={"label": "lable"})
    with pytest.raises(DataError, match=r"^a.jsonl: expected a column number 9 for the label, as task.columns"):
        load_task(path, kind=kind, columns={"label": 9})
    with pytest.raises(ConfigError, match=r"^task.columns: unknown name 'body'"):
        load_task(path, kind=kind, columns={"body": "text"})
    assert list(EXAMPLES[kind][0])[-1] in ("label", "tags", "answers")
    last = len(EXAMPLES[kind][0]) - 1
    assert load_task(path, kind=kind, columns={"label": last}).fingerprint == load_task(path, kind=kind).fingerprint


def test_one_column_where_one_is_meant() -> None:
    with refused(ConfigError, "task.columns.label: expected one column, found [a, b]."):
        load_task(write("a.jsonl", EXAMPLES["classify"]), columns={"label": ["a", "b"]})
