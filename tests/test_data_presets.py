"""Data sets by name: as they are distributed, as the hub has them, and with the usual columns."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest

from trivium.core import Task
from trivium.data import load_task
from trivium.data.labels import KINDS
from trivium.data.presets import PRESETS
from trivium.errors import ConfigError, DataError

MARK = '" quoted'  # one quotation mark: to a reader of csv, an open quote that swallows what follows


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def tsv(path: str, header: str, lines: Sequence[str], rows: int = 12) -> None:
    """A file of a header and of rows made of these lines, ``@`` standing for the number of the row."""
    Path(path).parent.mkdir(exist_ok=True, parents=True)
    text = [lines[i % len(lines)].replace("@", f"{path[:9]} {i}") for i in range(rows)]
    Path(path).write_text("\n".join([header] * bool(header) + text) + "\n", encoding="utf-8")


def write(path: str, rows: Sequence[dict[str, Any]]) -> None:
    Path(path).parent.mkdir(exist_ok=True, parents=True)
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


def counts(task: Task) -> dict[str, int]:
    return {split: rows.num_rows for split, rows in task.tables.items()}


def first(task: Task, split: Any = "train", n: int = 2) -> list[tuple[Any, ...]]:
    """Text, second text and label of the first rows."""
    rows = task.rows(split).slice(0, n).to_pylist()
    names = [name for name in ("text", "text_pair") if name in rows[0]]
    return [(*(row[name] for name in names), row["label"]) for row in rows]


NLI = "index\tsentence1\tsentence2\tlabel"
MNLI = "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence1\tsentence2\t{}gold_label"
STS = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore"
# name: header and two lines of the labelled files, header and line of the test file, the first two labels
GLUE: dict[str, tuple[str, list[str], str, str, list[Any]]] = {
    "cola": ("", [f"gj04\t1\t\tA {MARK} @", "gj04\t0\t*\tB @"], "index\tsentence", "0\tnew @", [1, 0]),
    "sst2": ("sentence\tlabel", [f"A {MARK} @\t1", "B @\t0"], "index\tsentence", "0\tnew @", [1, 0]),
    "mrpc": (
        "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        [f"1\t70\t71\tA {MARK} @\tC @", "0\t7\t8\tB @\tD @"],
        "index\t#1 ID\t#2 ID\t#1 String\t#2 String",
        "0\t1\t2\tnew @\tother",
        [1, 0],
    ),
    "stsb": (
        STS,
        [f"0\tg\tf\t2012\t1\tn\tn\tA {MARK} @\tC @\t5.000", "1\tg\tf\t2012\t1\tn\tn\tB @\tD @\t3.8"],
        STS.removesuffix("\tscore"),
        "0\tg\tf\t2012\t1\tn\tn\tnew @\tother",
        [5.0, 3.8],
    ),
    "qqp": (
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        [f"1\t2\t3\tA {MARK} @\tC @\t1", "4\t5\t6\tB @\tD @\t0"],
        "id\tquestion1\tquestion2",
        "0\tnew @\tother",
        [1, 0],
    ),
    "qnli": (
        "index\tquestion\tsentence\tlabel",
        [f"0\tA {MARK} @\tC @\tnot_entailment", "1\tB @\tD @\tentailment"],
        "index\tquestion\tsentence",
        "0\tnew @\tother",
        [1, 0],
    ),
    "rte": (
        NLI,
        [f"0\tA {MARK} @\tC @\tnot_entailment", "1\tB @\tD @\tentailment"],
        NLI[:-6],
        "0\tnew @\tother",
        [1, 0],
    ),
    "wnli": (NLI, [f"0\tA {MARK} @\tC @\t1", "1\tB @\tD @\t0"], NLI[:-6], "0\tnew @\tother", [1, 0]),
}


@pytest.mark.parametrize("name", GLUE)
def test_glue_as_it_is_distributed(name: str) -> None:
    header, lines, test_header, test_line, gold = GLUE[name]
    tsv("G/train.tsv", header, lines)
    tsv("G/dev.tsv", header, lines, 4)
    tsv("G/test.tsv", test_header, [test_line], 3)
    task = load_task("G", preset=name)
    assert (task.name, task.kind, task.metric) == (name, PRESETS[name].kind, PRESETS[name].metric)
    assert counts(task) == {"train": 12, "dev": 4}
    assert [row[-1] for row in first(task)] == gold
    pair = (f"A {MARK} G/train.t 0", "C G/train.t 0")
    assert first(task)[0][:-1] == (pair[:1] if name in ("cola", "sst2") else pair)
    label = {"cola": "1", "mrpc": "Quality", "stsb": "score", "qqp": "is_duplicate"}.get(name, "label")
    assert task.notes == (
        f"G/test.tsv: it has no column '{label}', so it is done without.",
        "test: there is none. The verdict is about dev, which also chooses weights and so flatters.",
    )


@pytest.mark.parametrize(("name", "which"), [("mnli", "matched"), ("mnli-mm", "mismatched")])
def test_mnli_has_two_dev_files(name: str, which: str) -> None:
    line = "0\t1\t2\tfiction\t( )\tA @\tC @\t{}neutral"
    tsv(
        "MNLI/train.tsv", MNLI.format("label1\t"), [line.format("neutral\t"), line.format("x\t")[:-7] + "contradiction"]
    )
    for other in ("matched", "mismatched"):
        tsv(f"MNLI/dev_{other}.tsv", MNLI.format("label1\tlabel2\t"), [line.format("neutral\tentailment\t")], 5)
        tsv(f"MNLI/test_{other}.tsv", MNLI[: -len("\t{}gold_label")], ["0\t1\t2\tf\t( )\tnew @\tC"], 2)
    task = load_task("MNLI", preset=name)
    assert counts(task) == {"train": 12, "dev": 5}
    assert task.labels == ("entailment", "neutral", "contradiction")
    assert [row[-1] for row in first(task)] == [1, 2]
    assert set(task.rows("dev")["file"].to_pylist()) == {f"dev_{which}.tsv"}
    assert any("named like no split, left aside" in note for note in task.notes)


def test_mrpc_as_microsoft_distributes_it_and_beside_what_glue_made_of_it() -> None:
    header, lines, test_header, test_line, _ = GLUE["mrpc"]
    tsv("M/msr_paraphrase_train.txt", header, lines)
    tsv("M/msr_paraphrase_test.txt", header, lines, 6)
    task = load_task("M", preset="mrpc")
    assert sum(counts(task).values()) == 18
    assert counts(task)["test"] == 6
    tsv("M/train.tsv", header, lines, 10)
    tsv("M/dev.tsv", header, lines, 4)
    tsv("M/test.tsv", test_header, [test_line], 3)
    task = load_task("M", preset="mrpc")
    assert counts(task) == {"train": 10, "dev": 4, "test": 6}
    assert task.notes[0] == "M: of the same split as others, left aside: msr_paraphrase_train.txt, test.tsv."


def test_a_line_that_ends_early_is_left_out_and_one_too_long_is_refused() -> None:
    header, lines, *_ = GLUE["qqp"]
    tsv("Q/train.tsv", header, [*lines, "7\t8\t9\tbroken @"], 30)
    task = load_task("Q", preset="qqp")
    assert task.notes[0].startswith(
        "Q/train.tsv: 10 of 30 rows dropped because column 'question2' is empty: row 3, 6, "
    )
    tsv("Q/train.tsv", header, [*lines, lines[0] + "\tmore"], 30)
    with pytest.raises(DataError, match=r"^Q/train.tsv row 3 \(line 4\): expected at most 6 fields .*, found 7"):
        load_task("Q", preset="qqp")


HUB: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "cola": (("sentence",), ("unacceptable", "acceptable")),
    "sst2": (("sentence",), ("negative", "positive")),
    "mrpc": (("sentence1", "sentence2"), ("not_equivalent", "equivalent")),
    "qqp": (("question1", "question2"), ("not_duplicate", "duplicate")),
    "mnli": (("premise", "hypothesis"), ("entailment", "neutral", "contradiction")),
    "qnli": (("question", "sentence"), ("entailment", "not_entailment")),
    "rte": (("sentence1", "sentence2"), ("entailment", "not_entailment")),
    "wnli": (("sentence1", "sentence2"), ("not_entailment", "entailment")),
}


def hub_rows(columns: Sequence[str], n: int, labels: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {name: f"{name} {i}" for name in columns} | {"label": i % labels, "idx": i} for i in range(start, start + n)
    ]


@pytest.mark.parametrize("name", HUB)
def test_glue_as_the_hub_has_it_and_with_our_columns(name: str) -> None:
    columns, labels = HUB[name]
    n = len(labels)
    dev = "validation_matched" if name == "mnli" else "validation"
    write("plain/train.jsonl", hub_rows(columns, 12, n))  # indices, and nobody says what of
    write(f"plain/{dev}.jsonl", hub_rows(columns, 6, n, 12))
    names = datasets.Features(
        {c: datasets.Value("string") for c in columns}
        | {"label": datasets.ClassLabel(names=list(labels)), "idx": datasets.Value("int32")}
    )
    Path("parquet").mkdir()
    for split, rows in (("train", hub_rows(columns, 12, n)), (dev, hub_rows(columns, 6, n, 12))):
        datasets.Dataset.from_list(rows, names).to_parquet(f"parquet/{split}-00000-of-00001.parquet")
    ours = ("text", "text_pair")[: len(columns)]
    for split, rows in (("train", hub_rows(columns, 12, n)), ("dev", hub_rows(columns, 6, n, 12))):
        renamed = [dict(zip(ours, row.values(), strict=False)) | {"label": str(row["label"])} for row in rows]
        write(f"ours/{split}.jsonl", renamed)
        write(f"named/{split}.jsonl", [row | {"label": labels[int(row["label"])]} for row in renamed])
    tasks = [load_task(path, preset=name) for path in ("plain", "parquet", "ours", "named")]
    assert len({task.fingerprint for task in tasks}) == 1
    assert tasks[0].labels == labels
    assert tasks[0].rows("dev")["label"].to_pylist() == [i % n for i in range(12, 18)]


def test_a_preset_reads_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    columns, labels = HUB["mnli"]
    for split, n in (("train", 12), ("validation_matched", 6), ("validation_mismatched", 9), ("test_matched", 3)):
        rows = hub_rows(columns, n, 3)
        write(f"owner/glue/{split}.jsonl", [row | {"label": -1} for row in rows] if "test" in split else rows)
    splits = "".join(f"  - {{split: {p.stem}, path: {p.name}}}\n" for p in sorted(Path("owner/glue").iterdir()))
    names = "".join(f"          '{i}': {label}\n" for i, label in enumerate(labels))
    Path("owner/glue/README.md").write_text(
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{splits}dataset_info:\n  features:\n"
        + "".join(f"  - {{name: {column}, dtype: string}}\n" for column in columns)
        + f"  - name: label\n    dtype:\n      class_label:\n        names:\n{names}"
        + "  - {name: idx, dtype: int64}\n---\n"
    )
    assert counts(load_task("hub:owner/glue", preset="mnli")) == {"train": 12, "dev": 6}
    task = load_task("hub:owner/glue", preset="mnli-mm")
    assert counts(task) == {"train": 12, "dev": 9}
    assert (task.name, task.labels) == ("mnli-mm", labels)
    assert any("test_matched" in note and "left aside" in note for note in task.notes)


@pytest.mark.parametrize(("name", "version"), [("squad", "v1.1"), ("squad_v2", "v2.0")])
def test_squad_as_it_is_distributed(name: str, version: str) -> None:
    def tree(split: str, n: int) -> Mapping[str, Any]:
        asked = [
            {"question": f"who {i}?", "id": str(i), "answers": [{"text": "Ada", "answer_start": 7}]} for i in range(n)
        ]
        return {
            "version": version,
            "data": [{"title": "t", "paragraphs": [{"context": f"It was Ada {split}", "qas": asked}]}],
        }

    for split, n in (("train", 8), ("dev", 3)):
        Path(f"{split}-{version}.json").write_text(json.dumps(tree(split, n)))
    task = load_task(".", preset=name)
    assert (task.kind, task.metric, task.name, counts(task)) == ("span", "f1", name, {"train": 8, "dev": 3})


def test_swag_as_it_is_distributed() -> None:
    header = ",video-id,fold-ind,startphrase,sent1,sent2,gold-source,ending0,ending1,ending2,ending3,label"
    for split, n in (("train", 8), ("val", 4), ("train_full", 1)):
        rows = [
            f'{i},v,{i},"He, {split} {i} she","He, {split} {i}",She,gold,runs.,sits.,falls.,flies.,{i % 4}'
            for i in range(n)
        ]
        Path(f"{split}.csv").write_text("\n".join([header, *rows]) + "\n")
    task = load_task(".", preset="swag")
    row = task.rows("dev").to_pylist()[1]
    assert row["text"] == "He, val 1"
    assert row["choices"] == ["She runs.", "She sits.", "She falls.", "She flies."]
    assert (row["label"], task.metric, counts(task)) == (1, "accuracy", {"train": 8, "dev": 4})


TLM = ("chemprot", "rct-20k", "sciie", "citation_intent", "hyperpartisan", "ag", "amazon", "helpfulness", "imdb")


@pytest.mark.parametrize("name", TLM)
def test_the_tasks_of_tlm(name: str) -> None:
    for split, n in (("train", 8), ("dev", 4), ("test", 4)):
        write(f"d/{split}.jsonl", [{"text": f"{split} {i}", "label": f"kind {i % 2}", "metadata": 5} for i in range(n)])
    task = load_task("d", preset=name)
    assert (task.name, counts(task), task.notes) == (name, {"train": 8, "dev": 4, "test": 4}, ())
    assert task.metric == ("micro_f1" if name in ("chemprot", "rct-20k") else "macro_f1")


def test_what_is_said_beside_a_preset_wins() -> None:
    rows = [{"a": f"one {i}", "b": f"other {i}", "gold": ("no", "yes")[i % 2]} for i in range(20)]
    write("x/train.jsonl", rows)
    columns = {"text": "a", "text_pair": "b", "label": "gold"}
    said = {"metric": "accuracy", "name": "mine", "labels": ["yes", "no"], "columns": columns}
    task = load_task("x", preset="mrpc", **said)
    assert (task.metric, task.name, task.labels) == ("accuracy", "mine", ("yes", "no"))
    assert first(task)[0][:2] == ("one 0", "other 0")
    scores = [{"text": f"text {i}", "label": i / 3} for i in range(20)]
    write("x/train.jsonl", scores)
    assert load_task("x", preset="mrpc", kind="regress").metric == "pearson"  # of another kind, not the preset's


def test_a_preset_that_nobody_knows() -> None:
    with pytest.raises(
        ConfigError, match=r"^task.preset: unknown preset 'mrcp'. Did you mean 'mrpc'\? Known are cola, "
    ):
        load_task("x", preset="mrcp")


def test_a_dev_file_without_labels_is_refused_where_no_preset_knows_why() -> None:
    header, lines, test_header, test_line, _ = GLUE["rte"]
    tsv("G/train.tsv", header, [line.replace(MARK, "") for line in lines])
    tsv("G/test.tsv", test_header, [test_line], 3)
    with pytest.raises(DataError, match=re.escape("G/test.tsv: expected a column 'label'")):
        load_task("G")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_speak_of_kinds_and_splits_that_there_are(name: str) -> None:
    preset = PRESETS[name]
    reader = KINDS[preset.kind]
    assert set(preset.columns) <= set(reader.roles)
    assert set(preset.files) <= {"train", "dev", "test"}
    assert preset.metric
    if preset.labels:
        assert reader.declared(preset.labels) == preset.labels
    if preset.metric == "f1" and preset.kind == "classify":
        assert len(preset.labels) == 2
        assert not preset.labels[1].startswith("not_")  # F1 is of the second
