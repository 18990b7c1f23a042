"""Every format gives the same rows, and every broken file one helpful error."""

import csv
import gzip
import io
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium.core import SPLITS, Task
from trivium.data import load_task
from trivium.data.files import data_files
from trivium.errors import DataError

AWKWARD = [
    "plain",
    "with, comma; and\ttab",
    'with "quotes"',
    '"all quoted"',
    "two\nlines",
    "windows\r\nline end",
    "old\rline end",
    " spaces around ",
    "line separator\u2028and next line\u0085here",
    "ünïcödé 東京 👍🏽 e\N{COMBINING ACUTE ACCENT}",
    "\ufeffmark of byte order",
    "{}[]:\\n \\u0041",
    "it's 'single'",
    "NULL",
    "nan",
    "-1",
]
ROWS = [{"text": f"{text} {i}", "label": ("no", "yes")[i % 2], "other": i} for i in range(3) for text in AWKWARD]
SUFFIXES = [
    *(f".{plain}{packed}" for plain in ("csv", "tsv", "jsonl", "ndjson", "json") for packed in ("", ".gz", ".zst")),
    ".parquet",
    ".arrow",
]


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write rows in the format that the suffix says."""
    plain = path.with_suffix("") if path.suffix in (".gz", ".zst") else path
    if plain.suffix in (".parquet", ".arrow"):
        table = pa.Table.from_pylist(list(rows))
        if plain.suffix == ".parquet":
            pq.write_table(table, path, row_group_size=7)
        else:
            with ipc.new_file(path, table.schema) as writer:
                writer.write_table(table, max_chunksize=7)
        return path
    out = io.StringIO(newline="")
    if plain.suffix in (".csv", ".tsv"):
        writer = csv.DictWriter(out, list(rows[0]), delimiter="\t" if plain.suffix == ".tsv" else ",")
        writer.writeheader()
        writer.writerows(rows)
    elif plain.suffix == ".json":
        json.dump(list(rows), out, indent=1)
    else:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    content = out.getvalue().encode()
    packer = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)
    path.write_bytes(packer(content))
    return path


def contents(task: Task) -> dict[str, list[dict[str, Any]]]:
    """The rows of every split, without the name of the file."""
    return {split: task.rows(split).drop_columns("file").to_pylist() for split in SPLITS}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # messages name files as the user wrote them


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_same_task(suffix: str) -> None:
    expected = load_task(write(Path("reference.jsonl"), ROWS))
    task = load_task(write(Path(f"rows{suffix}"), ROWS))
    assert contents(task) == contents(expected)
    assert (task.labels, task.notes) == (expected.labels, expected.notes)
    every = sorted((row for rows in contents(task).values() for row in rows), key=lambda row: row["row"])
    assert [row["text"] for row in every] == [row["text"] for row in ROWS]
    assert [task.labels[row["label"]] for row in every] == [row["label"] for row in ROWS]
    assert [row["row"] for row in every] == list(range(1, len(ROWS) + 1))
    assert set(task.rows("train")["file"].to_pylist()) == {f"rows{suffix}"}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), min_size=1),
    st.sampled_from(SUFFIXES),
)
def test_any_text_survives_any_format(texts: list[str], suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder, f"rows{suffix}"), [{"id": str(i), "text": text} for i, text in enumerate(texts)])
        with data_files([path])[0].open() as table:
            assert table.columns == ("id", "text")
            assert list(table.read(["text", "id"])) == [(i + 1, [text, str(i)]) for i, text in enumerate(texts)]


def rows_of(path: str) -> list[list[Any]]:
    with data_files([Path(path)])[0].open() as table:
        return [values for _, values in table.read(table.columns)]


def test_an_arrow_stream_is_read_like_an_arrow_file() -> None:
    table = pa.Table.from_pylist(ROWS)
    with ipc.new_stream("rows.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=5)
    assert rows_of("rows.arrow") == [list(row.values()) for row in ROWS]


def test_compressed_files_may_be_joined_end_to_end() -> None:
    parts = [b'{"text": "one"}\n{"text": "tw', b'o"}\n']
    Path("joined.jsonl.gz").write_bytes(b"".join(map(gzip.compress, parts)))
    Path("joined.jsonl.zst").write_bytes(b"".join(map(zstandard.compress, parts)))
    assert rows_of("joined.jsonl.gz") == rows_of("joined.jsonl.zst") == [["one"], ["two"]]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("windows.csv", "text,n\r\na,1\r\n\r\nb,2", [["a", "1"], ["b", "2"]]),  # and a blank line is no row
        ("UPPER.CSV", "text,n\na,1\n", [["a", "1"]]),
        ("gaps.jsonl", '\n{"n": 1}\r\n\n{"n": 2}', [[1], [2]]),
        ("lines.json", '{"n": 1}\n{"n": 2}\n', [[1], [2]]),
        ("late.json", '\n\n [{"n": 1},\n{"n": 2}]\n', [[1], [2]]),
        ("more.jsonl", '{"n": 1}\n{"n": 2, "extra": 3}\n', [[1], [2]]),
        ("order.jsonl", '{"a": 1, "b": 2}\n{"b": 4, "a": 3}\n', [[1, 2], [3, 4]]),
        ("paragraphs.txt", "\n\none\ntwo\n \t\nthree\n\n\n", [["one\ntwo\n"], ["three\n"]]),
    ],
)
def test_habits_of_files_that_are_no_mistakes(name: str, content: str, expected: list[list[Any]]) -> None:
    Path(name).write_bytes(content.encode())
    assert rows_of(name) == expected


@pytest.mark.parametrize(("name", "content"), [("a.csv", "text\nx\n"), ("a.jsonl", '{"text": "x"}\n')])
def test_a_mark_of_byte_order_is_no_part_of_the_file(name: str, content: str) -> None:
    Path(name).write_text(f"\ufeff{content}", encoding="utf-8")
    with data_files([Path(name)])[0].open() as table:
        assert (table.columns, list(table.read(["text"]))) == (("text",), [(1, ["x"])])


def test_rows_of_a_csv_are_counted_without_the_header_and_blank_lines() -> None:
    Path("rows.csv").write_text('text\n\n"a\nb"\n\nc\n')
    with data_files([Path("rows.csv")])[0].open() as table:
        assert list(table.read(["text"])) == [(1, ["a\nb"]), (2, ["c"])]


def test_a_paragraph_without_end_is_cut_at_a_line_end() -> None:
    line = "word " * 2000 + "\n"
    Path("long.txt").write_text(line * 250)
    paragraphs = [text for (text,) in rows_of("long.txt")]
    assert len(paragraphs) == 3
    assert "".join(paragraphs) == line * 250
    assert all(text.endswith("\n") and len(text) <= (1 << 20) + len(line) for text in paragraphs)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl.gz", ".jsonl.zst", ".json", ".parquet", ".arrow"])
def test_how_far_a_file_has_been_read_is_known(suffix: str) -> None:
    rows = [{"text": f"{i} {'x' * 500}"} for i in range(3000)]
    (file,) = data_files([write(Path(f"rows{suffix}"), rows)])
    with file.open() as table:
        positions = [table.position() for _ in table.read(["text"])]
        assert positions == sorted(positions)
        assert 0 <= positions[0] <= positions[-1] <= file.size
        assert table.position() >= 0.9 * file.size


GOOD = "text,label\n" + "".join(f"text number {i},{'ab'[i % 2]}\n" for i in range(2000))
CSV_QUOTES = (
    'Put such a field in double quotes, and write a double quote in it as "". Or save the file as JSON lines, which '
    "has no such trouble."
)
VALID_JSON = "expected valid JSON, one object on each line (or one list of objects in a .json file), found a mistake"
GZ_WAY_OUT = "Copy the file again; if it is not compressed, take the suffix off its name."


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "broken.jsonl",
            b'{"text": "a", "label": "x"}\n\n{"text": "b", "label": }\n',
            f"broken.jsonl row 2 (line 3): {VALID_JSON} (Expecting value at character 24). "
            "Correct it, or write the file with a JSON library.",
        ),
        (
            "broken.json",
            b'[{"text": "a", "label": "x"},\n{"text": "b", "label": }]\n',
            f"broken.json: {VALID_JSON} (Expecting value at line 2 character 24). "
            "Correct it, or write the file with a JSON library.",
        ),
        (
            "twice.jsonl",
            b'{"text": "a", "text": "b", "label": "x"}\n',
            f"twice.jsonl row 1 (line 1): {VALID_JSON} ('text' stands twice in one object). "
            "Correct it, or write the file with a JSON library.",
        ),
        (
            "field.jsonl",
            b'{"text": "a", "label": "x"}\n{"text": "b"}\n',
            "field.jsonl row 2 (line 2): expected a field 'label', found only text. "
            "Add it, as null if there is no value, or delete the row.",
        ),
        (
            "list.jsonl",
            b'["a", "x"]\n',
            'list.jsonl row 1 (line 1): expected an object such as {"text": "...", "label": "..."}, '
            'found ["a", "x"]. Give each value the name of its column.',
        ),
        (
            "latin.csv",
            "text,label\nplain,a\ncafé,a\n".encode("latin1"),
            "latin.csv row 2 (line 3): expected text in UTF-8, found the byte 0xe9 after 3 bytes of the line. "
            "Save it as UTF-8, for example: iconv -f latin1 -t utf-8 old > new.",
        ),
        (
            "wide.csv",
            "text,label\ncafé,a\n".encode("utf-16"),
            "wide.csv header (line 1): expected text in UTF-8, found UTF-16. "
            "Save it as UTF-8, for example: iconv -f utf-16 -t utf-8 old > new.",
        ),
        (
            "nul.tsv",
            b"text\tlabel\nca\0f\ta\n",
            "nul.tsv row 1 (line 2): expected text in UTF-8, found a NUL byte. "
            "The file is damaged, or no text file, or in UTF-16; save it as UTF-8.",
        ),
        (
            "ragged.csv",
            b"text,label\nfine,a\ngood, but long,b\n",
            "ragged.csv row 2 (line 3): expected 2 fields as in the header (text, label), found 3. "
            "Put texts that contain the separator or a line break in double quotes.",
        ),
        (
            "quote.csv",
            b'text,label\n"fine" indeed,a\n',
            "quote.csv row 1 (line 2): expected fields in the quoting of csv, found ',' expected after '\"'. "
            + CSV_QUOTES,
        ),
        (
            "open.csv",
            b'text,label\nfine,a\n"never closed,a\ngood,b\n',
            "open.csv row 2 (line 4): expected fields in the quoting of csv, found unexpected end of data. "
            + CSV_QUOTES,
        ),
        (
            "semicolons.csv",
            b"text;label\nfine;a\n",
            "semicolons.csv header (line 1): expected names of columns with ',' between, found 'text;label'. "
            "It seems to be separated by ';': a .csv is read with commas and a .tsv with tabs.",
        ),
        (
            "double.csv",
            b"text,text,label\na,b,c\n",
            "double.csv header (line 1): expected columns with different names, found more than one column 'text' in "
            "(text, text, label). Rename or remove the others.",
        ),
        (
            "header.csv",
            b"text,label\n",
            "header.csv: expected rows, found none below the header. Write the file again.",
        ),
        ("empty.csv", b"", "empty.csv: expected rows, found an empty file. Write it again, or leave it out."),
        (
            "blank.jsonl",
            b"\n\n",
            "blank.jsonl (line 2): expected rows, found an empty file. Write it again, or leave it out.",
        ),
        ("list.json", b"[]", "list.json: expected rows, found an empty file. Write it again, or leave it out."),
        (
            "cut.csv.gz",
            gzip.compress(GOOD.encode())[:-100],
            f"cut.csv.gz header: expected a whole gzip file, found that its end is missing. {GZ_WAY_OUT}",
        ),
        (
            "cut.csv.zst",
            zstandard.compress(GOOD.encode())[:-100],
            f"cut.csv.zst header: expected a whole zstd file, found that its end is missing. {GZ_WAY_OUT}",
        ),
        (
            "plain.csv.gz",
            GOOD.encode(),
            "plain.csv.gz header: expected a file compressed with gzip, found something else "
            f"(zlib inflate failed: incorrect header check). {GZ_WAY_OUT}",
        ),
        (
            "page.docx",
            b"PK",
            "page.docx: expected one of .csv, .tsv, .jsonl, .ndjson, .json, .parquet, .arrow, .txt, and of plain text "
            "also .gz or .zst, found '.docx'. Save it as one of these.",
        ),
        (
            "page.parquet.gz",
            b"PK",
            "page.parquet.gz: expected one of .csv, .tsv, .jsonl, .ndjson, .json, .parquet, .arrow, .txt, and of plain "
            "text also .gz or .zst, found '.parquet.gz'. Save it as one of these.",
        ),
    ],
)
def test_a_broken_file_says_where_and_what_to_do(name: str, content: bytes, message: str) -> None:
    Path(name).write_bytes(content)
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        load_task(name)


@pytest.mark.parametrize(("suffix", "what"), [(".parquet", "Parquet"), (".arrow", "Arrow")])
@pytest.mark.parametrize("damage", [lambda b: b"PK", lambda b: b[: len(b) // 2], lambda b: b[8:]])
def test_a_damaged_binary_file_is_called_so(suffix: str, what: str, damage: Any) -> None:
    path = write(Path(f"rows{suffix}"), ROWS)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        DataError, match=rf"^rows\{suffix}( row \d+)?: expected a whole {what} file, found a damaged one"
    ):
        load_task(path)


@pytest.mark.parametrize(
    ("offsets", "letters"),
    [
        ([0, 1, 2], b"a\xff"),  # not UTF-8
        ([0, 10**9, 2], b"ab"),  # a text that reaches into memory of others
    ],
)
def test_damage_inside_a_binary_file_is_found(offsets: list[int], letters: bytes) -> None:
    bad = pa.StringArray.from_buffers(2, pa.py_buffer(np.array(offsets, np.int32)), pa.py_buffer(letters))
    with ipc.new_file("rows.arrow", pa.schema({"text": pa.string(), "label": pa.string()})) as writer:
        writer.write_batch(pa.record_batch({"text": bad, "label": ["x", "y"]}))
    with pytest.raises(DataError, match=r"^rows.arrow row 1: expected a whole Arrow file, found a damaged one"):
        load_task("rows.arrow")


def test_a_missing_file_has_a_name_like_one_that_is_there() -> None:
    Path("data").mkdir()
    Path("data/reviews.csv").write_text("text,label\n")
    Path("data/notes.txt").write_text("hm")
    message = (
        "data/reveiws.csv: expected a data file, found none. Did you mean 'reviews.csv'? In data there is notes.txt, "
        "reviews.csv."
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        load_task("data/reveiws.csv")
