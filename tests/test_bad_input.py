"""Whatever is handed in, it is read as it stands or refused in words: where, what was expected, and what to do."""

import csv
import dataclasses
import io
import json
import re
import tempfile
import typing
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from bad_inputs import CASES, CONLL, CONLLU, GOOD, MRQA, SQUAD, STUDY_TEXT, Case, delimited, jsonl, parquet
from trivium.auxiliary import SELECTORS as AUXILIARY
from trivium.cli import app
from trivium.config import EngineConfig, build, load_config
from trivium.core import SPLITS, Stage, Task
from trivium.data import load_corpus, load_task, read_texts
from trivium.documents import SELECTORS
from trivium.documents.screens import Screens
from trivium.encoders import Scratch
from trivium.errors import ConfigError, TriviumError
from trivium.nmg import MASKERS
from trivium.study.arms import resolve
from trivium.study.scaffold import write_study

T = TypeVar("T")
INTERNALS = ("Traceback", "object at 0x", "pydantic", "trivium/src")  # what no message may show


def readable(message: str) -> bool:
    """Whether a person can make something of it: it is not endless, and shows nothing of our insides."""
    return 20 < len(message) < 10_000 and not any(word in message for word in INTERNALS)


def outcome(load: Callable[[], T]) -> T | str:
    """What is read, or what is said instead, if that is readable; any other error is one."""
    try:
        return load()
    except TriviumError as error:
        assert readable(str(error)), str(error)[:2000]  # noqa: PT017  # both outcomes are right
        return str(error)


@pytest.fixture(autouse=True)
def _here(here: None) -> None:
    """Every test in a folder of its own."""


# -- by hand ---


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id.encode("ascii", "backslashreplace").decode())
def test_a_message_says_where_and_the_way_out(case: Case) -> None:
    case.write()
    with pytest.raises(TriviumError, match=f"(?s){case.place}") as error:
        case.load()
    assert readable(str(error.value)), str(error.value)[:2000]
    assert re.search(f"(?s){case.way}", str(error.value)), str(error.value)


def test_there_are_hundreds_of_different_ones() -> None:
    assert len({(tuple(case.files.items()), case.place, case.way) for case in CASES}) == len(CASES) >= 400
    assert max(Counter(case.id for case in CASES).values()) == 1


NEW = [case for case in CASES if case.new]
CHECKED = [case for case in CASES if case.id.startswith("study: ") and set(case.files) <= {"s.yaml", "override.txt"}]


def refused(arguments: list[str], code: int) -> str:
    """What the command line says in refusing."""
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == code, result.output
    assert readable(result.output)
    assert result.stdout == ""
    return str(result.stderr)


@pytest.mark.parametrize("case", NEW, ids=lambda case: case.id)
def test_new_writes_nothing_for_what_is_no_data(case: Case) -> None:
    case.write()
    said = refused(["new", case.new, "-o", "made.yaml"], 1)
    assert said.startswith("DataError: ")
    assert said.count("DataError") == 1
    assert case.new in said
    assert not Path("made.yaml").exists()


@pytest.mark.parametrize("case", CHECKED[::8], ids=lambda case: case.id)
def test_the_command_line_says_it_too(case: Case) -> None:
    case.write()
    written = case.files.get("override.txt")
    said = refused(["check", "s.yaml", *([] if written is None else ["--", written.decode()])], 2)
    assert said.startswith("ConfigError: ")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"body\na\n", "--text"),
        ("a.csv", b"text\n\xff\n", "UTF-8"),
        ("gone.csv", b"", "there is"),
        ("a.csv.gz", b"text\na\n", "take the suffix off"),
    ],
)
def test_predict_refuses_a_file_before_it_loads_a_model(name: str, content: bytes, said: str) -> None:
    if content:
        Path(name).write_bytes(content)
    where = refused(["predict", "model", name], 1)
    assert said in where or "expected a model folder" in where


def test_what_no_terminal_can_show_is_said_all_the_same() -> None:
    name = "\udcff.csv"  # how Python writes a byte of a file's name that is no UTF-8
    assert "\\udcff" in refused(["new", name], 1)


# -- odd, and yet right ---


def test_links_that_lead_in_circles_are_followed_once() -> None:
    for folder in ("pile/a", "pile/b"):
        Path(folder).mkdir(parents=True)
        Path(folder, "up").symlink_to("..")
        Path(folder, "texts.txt").write_text(f"a text of {folder}")
    Path("elsewhere").mkdir()
    Path("elsewhere/more.txt").write_text("a third one")
    Path("pile/c").symlink_to("../elsewhere")
    corpus = load_corpus("pile/**/*.txt", cache=Path("cache"))
    assert sorted(corpus.table["text"].to_pylist()) == ["a text of pile/a", "a text of pile/b", "a third one"]
    assert sorted(set(corpus.table["file"].to_pylist())) == ["a/texts.txt", "b/texts.txt", "c/more.txt"]


def test_a_cell_of_five_megabytes_is_a_text_like_others() -> None:
    long = "word " * 1_000_000
    for name, content in {
        "a.csv": f"text,label\n{long},a\n" + "".join(f"t{i},{'ab'[i % 2]}\n" for i in range(12)),
        "a.jsonl": jsonl([{"text": long, "label": "a"}, *GOOD["classify"]]).decode(),
    }.items():
        Path(name).write_text(content)
        texts = [text for split in SPLITS for text in load_task(name).rows(split)["text"].to_pylist()]
        assert long in texts
    Path("b.txt").write_text(long[: 1 << 20])
    assert load_corpus("b.txt", cache=Path("cache")).table.num_rows == -(-(1 << 20) // 5 // 128)


def test_labels_of_mixed_types_are_told_of() -> None:
    labels = [True, "true", 1, "1.0", "Yes", "yes", "no", 2]
    Path("a.jsonl").write_bytes(jsonl([{"text": f"text {i}", "label": labels[i % 8]} for i in range(40)]))
    alike = "1, 1.0, True, Yes, true, yes"
    assert any(f"only their spelling tells apart: {alike};" in note for note in load_task("a.jsonl").notes)
    Path("b.jsonl").write_bytes(jsonl([{**row, "label": i % 3} for i, row in enumerate(GOOD["classify"])]))
    assert not any("spelling" in note for note in load_task("b.jsonl").notes)


def test_answers_that_overlap_are_all_kept() -> None:
    answers = {"text": ["the cell", "cell", "cell"], "answer_start": [0, 4, 4]}
    Path("a.jsonl").write_bytes(jsonl([{**row, "answers": answers} for row in GOOD["span"]]))
    label = load_task("a.jsonl", kind="span").rows("train")["label"].to_pylist()[0]
    assert label == [{"text": "the cell", "start": 0}, {"text": "cell", "start": 4}, {"text": "cell", "start": 4}]


def test_a_merge_in_a_merge_is_no_key_that_stands_twice() -> None:
    text = "base: &b {lr: 0.1}\nx:\n  mid: &m {<<: *b, lr: 0.2}\ntop: {<<: *m}\n"
    Path("s.yaml").write_text(text)
    with pytest.raises(ConfigError, match="base: unknown key") as error:
        load_config("s.yaml")
    assert "second time" not in str(error.value)


@pytest.mark.parametrize("name", ["my data, 2nd.csv", "данные.csv", "study.csv", "a\nb.csv", "x" * 200 + ".csv"])
def test_a_study_is_named_after_any_file(name: str) -> None:
    rows = [{"text": f"some text {i}", "label": "ab"[i % 2], "no\nte": ""} for i in range(12)]
    Path(name).write_bytes(delimited(GOOD["classify"]))
    write_study([name], Path("study.yaml"))
    assert load_config("study.yaml").task.path == name
    Path("odd.jsonl").write_bytes(jsonl([{**row, "label": None} if i == 3 else row for i, row in enumerate(rows)]))
    write_study(["odd.jsonl"], Path("my study!.yaml"))
    assert load_config("my study!.yaml").name == "my-study"


def test_a_line_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trivium.data.lines._LONGEST", 1 << 20)
    Path("a.txt").write_text("x" * (1 << 21))
    with pytest.raises(TriviumError, match=r"^a\.txt row 1 \(line 1\): expected lines of less than 1 MiB"):
        load_corpus("a.txt", cache=Path("cache"))


# -- numbers out of range ---

NEEDED: Mapping[str, dict[str, Any]] = {
    "dense": {"encoder": "x"},
    "saved": {"path": "x"},
    "stage": {"name": "s", "mix": {"task": 1, "documents": 1}, "updates": 3},
}
SIGNED = {"threshold", "row_threshold"}  # may be below 0
SENSELESS: Mapping[str, Any] = {
    "nan": float("nan"),
    "infinity": float("inf"),
    "below 0": -(10**6),
    "a truth value": True,
    "more than 64 bits": 1 << 70,
    "a word": "many",
    "a list": [[1]],
}


def numbers() -> list[tuple[str, type[Any], str, bool]]:
    """Every key of every strategy that is a number, and whether it is whole."""
    rooms = [SELECTORS, MASKERS, AUXILIARY, {"scratch": Scratch, "stage": Stage, "screens": Screens}]
    found = []
    for name, cls in [item for room in rooms for item in room.items()]:
        hints = typing.get_type_hints(cls)
        for key in [field.name for field in dataclasses.fields(cls) if field.init]:
            kinds = set(typing.get_args(hints[key])) or {hints[key]}
            if kinds & {int, float}:
                found.append((name, cls, key, int in kinds))
    return found


def test_no_number_is_out_of_range() -> None:
    tried = 0
    for name, cls, key, whole in numbers():
        options = NEEDED.get(name, {})
        if name == "stage" and key == "epochs":
            options = {"name": "s", "mix": {"task": 1}}
        for what, value in SENSELESS.items():
            if (key in SIGNED and what == "below 0") or (not whole and what == "more than 64 bits"):
                continue
            told = outcome(lambda: build(cls, {**options, key: value}, "place"))  # noqa: B023  # called at once
            assert isinstance(told, str), f"{name}.{key} may be {what}"
            assert re.search(rf"^place.*\b{key}\b", told), told
            tried += 1
    assert tried >= 500


# -- spoiled at random ---

NASTY = [b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"'", b"\r", b"\n", b"\t", b",", b"{", b"]", b"[[", b"\\", b"NaN"]
NASTY += [b"1e999", b"null", b"\xe2\x80\xa8", b"\\ud800", b"-DOCSTART-", b"#", b"&a", b"*a", b"<<: ", b"!!int ", b": "]


@st.composite
def damage(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Something that happens to a file once: cut off, a piece lost, doubled, moved, overwritten, something put in."""
    how = draw(st.sampled_from(["cut", "lose", "double", "flip", "insert", "insert", "replace", "move"]))
    place, length = draw(st.floats(0, 1)), draw(st.integers(1, 40))
    piece = draw(st.sampled_from(NASTY) | st.binary(min_size=1, max_size=4))

    def spoil(good: bytes) -> bytes:
        at = int(place * (len(good) - 1))
        before, there, after = good[:at], good[at : at + length], good[at + length :]
        return {
            "cut": before,
            "lose": before + after,
            "double": before + there * 2 + after,
            "flip": before + bytes([good[at] ^ (1 << length % 8)]) + good[at + 1 :],
            "insert": before + piece + there + after,
            "replace": before + piece + after,
            "move": before + after[:length] + there + after[length:],
        }[how]

    return spoil


FILES: Mapping[str, tuple[bytes, str]] = {
    "a.csv": (delimited(GOOD["classify"]), "classify"),
    "a.tsv": (delimited(GOOD["classify"], "\t"), "classify"),
    "a.jsonl": (jsonl(GOOD["classify"]), "classify"),
    "a.json": (json.dumps(GOOD["classify"], indent=1).encode(), "classify"),
    "many.jsonl": (jsonl(GOOD["multilabel"]), "multilabel"),
    "score.csv": (delimited(GOOD["regress"]), "regress"),
    "rank.jsonl": (jsonl(GOOD["rank"]), "rank"),
    "tag.jsonl": (jsonl(GOOD["tag"]), "tag"),
    "a.conll": (CONLL.encode(), "tag"),
    "a.conllu": (CONLLU.encode(), "tag"),
    "span.jsonl": (jsonl(GOOD["span"]), "span"),
    "squad.json": (json.dumps(SQUAD).encode(), "span"),
    "mrqa.jsonl": (jsonl(MRQA), "span"),
    "a.parquet": (parquet(GOOD["classify"]), "classify"),
    "span.parquet": (parquet(GOOD["span"]), "span"),
}
RANDOMLY = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))


def demand_sound(task: Task) -> None:
    """Refuse a task of which some row cannot be."""
    for rows in task.tables.values():
        assert rows.num_rows > 0
        for row in rows.to_pylist():
            text, label = row["text"], row["label"]
            assert text.strip()
            assert "\0" not in text
            if task.kind == "classify":
                assert 0 <= label < len(task.labels)
            elif task.kind == "multilabel":
                assert label == sorted(set(label))
                assert all(0 <= one < len(task.labels) for one in label)
            elif task.kind == "regress":
                assert abs(label) < float("inf")
            elif task.kind == "rank":
                assert 0 <= label < len(row["choices"])
            elif task.kind == "tag":
                assert len(label) == len(row["tokens"])
            else:
                assert all(row["text_pair"][a["start"] :].startswith(a["text"]) for a in label)


def said(name: str, content: bytes) -> dict[int, tuple[str, str]] | None:
    """Text and label of each row with both, as the standard library reads them; none for other formats."""
    if name not in ("a.csv", "a.tsv", "a.jsonl"):
        return None
    lines = content.decode("utf-8-sig")
    if name in ("a.csv", "a.tsv"):
        fields = [row for row in csv.reader(io.StringIO(lines, newline=""), delimiter=",\t"[name == "a.tsv"]) if row]
        rows = [dict(zip(fields[0], row, strict=True)) for row in fields[1:]]
    else:
        rows = [json.loads(line) for line in lines.split("\n") if line.strip()]
    names = {name.strip().lower(): name for name in rows[0]}
    pairs = [(row[names["text"]], row[names["label"]]) for row in rows]
    return {
        i: (text, str(label).strip())
        for i, (text, label) in enumerate(pairs, 1)
        if isinstance(text, str) and text.strip() and label is not None and label == label and str(label).strip()
    }


@pytest.mark.parametrize("name", FILES)
def test_a_spoiled_file_is_read_as_it_stands_or_refused(name: str) -> None:
    good, kind = FILES[name]
    demand_sound(load(name, good, kind))
    refusals = 0

    @RANDOMLY
    @given(damage())
    def spoil(spoilt: Callable[[bytes], bytes]) -> None:
        nonlocal refusals
        content = spoilt(good)
        task = outcome(lambda: load(name, content, kind))
        if isinstance(task, str):
            refusals += 1
            assert Path(name).stem in task
            return
        demand_sound(task)
        expected = said(name, content)
        if expected is not None and "text_pair" not in task.rows("train").column_names:
            loaded = [row for rows in task.tables.values() for row in rows.to_pylist()]
            assert {row["row"]: (row["text"], task.labels[row["label"]]) for row in loaded} == expected

    spoil()
    assert refusals > 5


def load(name: str, content: bytes, kind: str) -> Task:
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        Path(name).write_bytes(content)
        return load_task(name, kind=kind)


PACKED = {"a.csv.gz": ("a.csv", "gzip"), "a.jsonl.zst": ("a.jsonl", "zstd")}


@pytest.mark.parametrize("name", PACKED)
def test_a_spoiled_packed_file_is_never_half_read(name: str) -> None:
    import gzip

    import zstandard

    plain, how = PACKED[name]
    good, kind = FILES[plain]
    whole = (
        gzip.compress(good, mtime=0) if how == "gzip" else zstandard.ZstdCompressor(write_checksum=True).compress(good)
    )
    expected = load(name, whole, kind)

    @RANDOMLY
    @given(damage())
    def spoil(spoilt: Callable[[bytes], bytes]) -> None:
        task = outcome(lambda: load(name, spoilt(whole), kind))
        assert isinstance(task, str) or task.fingerprint == expected.fingerprint  # a checksum guards what is in it

    spoil()


@RANDOMLY
@given(damage(), st.sampled_from(["a.txt", "a.jsonl", "a.csv", "d/b.txt"]))
def test_a_spoiled_corpus_is_read_or_refused(spoilt: Callable[[bytes], bytes], name: str) -> None:
    files = {
        "a.txt": b"a text\nof two lines\n\nanother text\n",
        "a.jsonl": jsonl([{"text": f"document {i}", "source": "s"} for i in range(5)]),
        "a.csv": delimited([{"text": f"document {i}", "source": "s"} for i in range(5)]),
        "d/b.txt": b"more text\n\nand more\n",
    }
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        Path("d").mkdir()
        for each, content in files.items():
            Path(each).write_bytes(spoilt(content) if each == name else content)
        corpus = outcome(lambda: load_corpus("**/*.*", cache=Path(folder, "cache")))
        if isinstance(corpus, str):
            assert name in corpus
            return
        texts = corpus.table["text"].to_pylist()
        assert all(text.strip() and "\0" not in text for text in texts)
        assert {"a.txt", "a.jsonl", "a.csv", "d/b.txt"} - {name} <= set(corpus.table["file"].to_pylist())


@RANDOMLY
@given(damage(), st.sampled_from(sorted(FILES)))
def test_spoiled_rows_to_answer_are_read_or_refused(spoilt: Callable[[bytes], bytes], name: str) -> None:
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        Path(name).write_bytes(spoilt(FILES[name][0]))
        rows = outcome(lambda: list(read_texts(name)))
        assert isinstance(rows, str) or all(value for row in rows for value in row.values())


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([10**400, -1, 0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("kind", sorted(GOOD))
def test_any_value_in_any_column_is_read_or_refused(kind: str) -> None:
    @RANDOMLY
    @given(st.sampled_from(sorted(GOOD[kind][0])), JUNK, st.integers(0, 11))
    def spoil(column: str, junk: Any, place: int) -> None:
        content = jsonl([{**row, column: junk} if i == place else row for i, row in enumerate(GOOD[kind])])
        task = outcome(lambda: load("a.jsonl", content, kind))
        if not isinstance(task, str):
            demand_sound(task)

    spoil()


SMALL_STUDY = STUDY_TEXT + (
    "screens: {near_duplicates: 0.7}\nseeds: [1, 2]\nadaptive: {step: 2}\nbudget: 30m\nengine: {workers: 2}\n"
)
KEYS = ["name", "task", "task.path", "task.columns.text", "corpus", "corpus.window", "seeds", "seeds.0", "screens"]
KEYS += ["adaptive", "adaptive.most", "budget", "engine", "engine.workers", "encoder", "encoder.vocabulary", "grid"]
KEYS += ["grid.documents.x", "baseline", "linear", "equal", "arms", "arms.tlm", "arms.tlm.stages", "arms.new"]
KEYS += ["arms.tlm.stages.0", "arms.tlm.stages.0.lr", "arms.tlm.stages.1.mix", "arms.tlm.stages.0.name"]
KEYS += ["arms.tlm.documents", "arms.tlm.documents.k1", "arms.tlm.masker", "arms.tlm.auxiliary", "arms.tlm.encoder"]


def explained(text: bytes, *overrides: str) -> None:
    """Read a study file; whatever is wrong with it has to be told in words."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        Path("s.yaml").write_bytes(text)
        config = outcome(lambda: load_config("s.yaml", overrides))
        if not isinstance(config, str):
            outcome(lambda: resolve(config))
            config.model_dump(mode="json")


@RANDOMLY
@given(damage())
def test_a_spoiled_study_file_is_read_or_refused(spoilt: Callable[[bytes], bytes]) -> None:
    explained(spoilt(SMALL_STUDY.encode()))


@RANDOMLY
@given(
    st.sampled_from(KEYS), JUNK.map(lambda junk: yaml.safe_dump(junk, default_flow_style=True, width=10**6)) | st.text()
)
def test_any_override_is_taken_or_refused(key: str, value: str) -> None:
    explained(SMALL_STUDY.encode(), f"{key}={value}")


@RANDOMLY
@given(JUNK)
def test_an_engine_is_one_or_refused(junk: Any) -> None:
    try:
        engine = EngineConfig.model_validate(junk)
    except ValueError:
        return
    assert engine.workers is None or 1 <= engine.workers <= 1024
