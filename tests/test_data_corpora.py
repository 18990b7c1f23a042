"""Corpora: every document once, in bounded memory, made again only when something has changed."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trivium.core import Corpus
from trivium.data import count_words, load_corpus, windows, words
from trivium.errors import ConfigError, DataError, TriviumError

Load = Callable[..., Corpus]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # messages name files as the user wrote them
    monkeypatch.setenv("TRIVIUM_CACHE", "cache")


def write(path: str, rows: list[dict[str, Any]]) -> str:
    Path(path).parent.mkdir(exist_ok=True, parents=True)
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pages(n: int, **more: Any) -> list[dict[str, Any]]:
    return [{"text": f"page {i} of the book", **more} for i in range(n)]


def made() -> list[str]:
    """Names of all that lies in the cache, finished or not; locks aside."""
    return sorted(path.name for path in Path("cache/corpora").iterdir() if path.name != ".locks")


class Watched:
    """Counts how often a corpus is made: only making reports progress to the end."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.steps.append((done, total))

    @property
    def times(self) -> int:
        return sum(done == total for done, total in self.steps)


# -- documents --------------------------------------------------------------------------------------------------------


def test_files_of_all_formats_become_one_table() -> None:
    write("pile/b.jsonl", pages(2, source="shelf"))
    Path("pile/a.txt").write_text("One paragraph\nof two lines.\n\nAnother.\n")
    Path("pile/c.csv.gz").write_bytes(gzip.compress(b'text,source\n"Quoted, text",\nPlain,web\n'))
    pq.write_table(pa.table({"text": ["From Parquet"], "n": [1]}), "pile/sub.parquet")
    corpus = load_corpus("pile")
    assert corpus.name == "pile"
    assert corpus.notes == ()
    assert corpus.table.to_pylist() == [
        {"text": text, "source": source, "words": count, "file": file, "row": row}
        for text, source, count, file, row in [
            ("One paragraph\nof two lines.", "a", 5, "a.txt", 1),
            ("Another.", "a", 1, "a.txt", 2),
            ("page 0 of the book", "shelf", 5, "b.jsonl", 1),
            ("page 1 of the book", "shelf", 5, "b.jsonl", 2),
            ("Quoted, text", "c", 2, "c.csv.gz", 1),
            ("Plain", "web", 1, "c.csv.gz", 2),
            ("From Parquet", "sub", 2, "sub.parquet", 1),
        ]
    ]
    assert {name: str(corpus.table.schema.field(name).type) for name in corpus.table.column_names} == {
        "text": "large_string",
        "source": "dictionary<values=string, indices=int32, ordered=0>",
        "words": "int32",
        "file": "dictionary<values=string, indices=int32, ordered=0>",
        "row": "int64",
    }
    assert corpus.texts([6, 0]) == ["From Parquet", "One paragraph\nof two lines."]


def test_patterns_may_overlap_and_a_file_is_read_once() -> None:
    write("pile/x/a.jsonl", pages(2))
    write("pile/b.jsonl", pages(3))
    Path("pile/README.md").write_text("about")
    corpus = load_corpus(["pile/**/*.jsonl", "pile/b.jsonl", Path("pile/x"), "pile/*"])
    assert corpus.table["file"].to_pylist() == ["b.jsonl"] * 3 + ["x/a.jsonl"] * 2
    assert corpus.notes == ("pile/*: no data files, left aside: README.md.",)
    assert corpus.name == "pile"
    assert load_corpus("pile/x/a.jsonl").name == "a"
    assert load_corpus("pile/b.jsonl", name="books").name == "books"


def test_columns_can_be_said_and_then_only_they_are_read() -> None:
    path = write(
        "a.jsonl",
        [
            {"text": "no", "body": "yes", "source": "s", "site": 7},
            {"text": "no", "body": "yes yes", "source": "s", "site": None},
        ],
    )
    assert load_corpus(path).table["source"].to_pylist() == ["s", "s"]
    corpus = load_corpus(path, columns={"text": "body", "source": "site"})
    assert corpus.texts([0, 1]) == ["yes", "yes yes"]
    assert corpus.sources([0, 1]) == ["7", "a"]
    assert load_corpus(path, columns={"text": "body"}).sources([0, 1]) == ["a", "a"]


def test_documents_without_a_word_are_counted_and_long_ones_cut() -> None:
    rows = pages(30)
    for i in (0, 3, 4, 10, 11, 20, 25):
        rows[i]["text"] = (None, "", " \n", "!?", "—")[i % 5]
    rows[5]["text"] = " ".join(f"Sentence {i} has five words." for i in range(10))
    corpus = load_corpus(write("a.jsonl", rows), window=16)
    assert corpus.notes == (
        "7 documents without a word dropped: a.jsonl row 1, a.jsonl row 4, a.jsonl row 5, a.jsonl row 11, a.jsonl row "
        "12 and 2 more.",
        "1 documents of more than 24 words cut into 4 windows of at most 16 words, at the ends of sentences where "
        "possible.",
    )
    assert len(corpus) == 30 - 7 - 1 + 4
    pieces = [row["text"] for row in corpus.table.to_pylist() if row["row"] == 6]
    assert pieces == windows(rows[5]["text"], 16)
    assert words(" ".join(pieces)) == words(rows[5]["text"])
    assert corpus.words.tolist() == [count_words(text) for text in corpus.table["text"].to_pylist()]


def test_sources_that_turn_up_late_keep_their_documents() -> None:
    rows = [{"text": f"page {i}", "source": f"source {i // 7000}"} for i in range(25_000)]  # three batches
    corpus = load_corpus(write("a.jsonl", rows))
    assert corpus.table["text"].num_chunks >= 3
    assert corpus.table["source"].to_pylist() == [row["source"] for row in rows]
    assert corpus.sources([24_999, 0, 7000]) == ["source 3", "source 0", "source 1"]
    assert corpus.table["row"].to_pylist() == list(range(1, 25_001))


def test_progress_climbs_to_the_end() -> None:
    watched = Watched()
    paths = [write(f"{name}.jsonl", pages(15_000)) for name in "ab"]
    load_corpus(paths, progress=watched)
    done, totals = zip(*watched.steps, strict=True)
    assert len(done) >= 3
    assert list(done) == sorted(done)
    assert set(totals) == {sum(Path(path).stat().st_size for path in paths)}
    assert done[-1] == totals[0]


def test_a_data_set_of_the_hub_is_a_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    write("owner/books/train.jsonl", pages(3))
    write("owner/books/test.jsonl", pages(4))
    write("local.jsonl", pages(1))
    corpus = load_corpus(["hub:owner/books", "local.jsonl"])
    assert corpus.table["file"].to_pylist() == ["hub:owner/books/train"] * 3 + ["local.jsonl"]
    assert corpus.sources([0, 3]) == ["books", "local"]
    assert load_corpus("hub:owner/books").name == "books"


# -- the cache --------------------------------------------------------------------------------------------------------


def test_nothing_is_made_twice() -> None:
    write("pile/a.jsonl", pages(5))
    write("pile/b.jsonl", pages(5))
    watched = Watched()
    first = load_corpus("pile", progress=watched)
    os.utime("pile/a.jsonl", (0, 0))
    Path("pile").rename("moved")
    for pattern in ("moved", ["moved/b.jsonl", "moved/a.jsonl"], Path("moved").resolve()):
        again = load_corpus(pattern, progress=watched, name="other")
        assert again.fingerprint == first.fingerprint
        assert again.table.equals(first.table)
    assert watched.times == 1
    assert made() == [first.fingerprint]


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (lambda: write("pile/a.jsonl", [*pages(4), {"text": "page 4 of the cook"}]), {}),  # as long as before
        (lambda: write("pile/a.jsonl", pages(5)[::-1]), {}),
        (lambda: write("pile/c.jsonl", pages(1)), {}),
        (lambda: Path("pile/a.jsonl").rename("pile/z.jsonl"), {}),
        (lambda: None, {"window": 3}),
        (lambda: None, {"columns": {"text": "text"}}),
    ],
)
def test_what_has_changed_is_made_anew(change: Callable[[], object], options: dict[str, Any]) -> None:
    write("pile/a.jsonl", pages(5))
    write("pile/b.jsonl", pages(5))
    first = load_corpus("pile")
    before = first.table.to_pylist()
    os.utime("pile/a.jsonl", (0, 0))
    change()
    watched = Watched()
    second = load_corpus("pile", progress=watched, **options)
    assert watched.times == 1
    assert second.fingerprint != first.fingerprint
    assert first.table.to_pylist() == before  # whoever still reads the old one is not disturbed


def test_where_the_cache_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.jsonl", pages(1))
    load_corpus(path, cache=Path("given"))
    load_corpus(path)
    monkeypatch.delenv("TRIVIUM_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    load_corpus(path)
    for cache in ("given", "cache", "home/.cache/trivium"):
        assert len(list(Path(cache, "corpora").glob("*/done.json"))) == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "done.json").unlink(),
        lambda folder: (folder / "done.json").write_text("{"),
        lambda folder: (folder / "done.json").write_text("[]"),
        lambda folder: (folder / "done.json").write_text('{"documents": 4, "notes": []}'),
        lambda folder: (folder / "documents.arrow").unlink(),
        lambda folder: (folder / "documents.arrow").write_bytes((folder / "documents.arrow").read_bytes()[:-1]),
        lambda folder: (folder / "documents.arrow").write_bytes(bytes((folder / "documents.arrow").stat().st_size)),
        lambda folder: folder.rename(folder.with_name(f".tmp-{folder.name}-killed")),
    ],
)
def test_a_damaged_or_half_written_cache_is_never_used(damage: Callable[[Path], object]) -> None:
    path = write("a.jsonl", pages(5))
    first = load_corpus(path)
    before = first.table.to_pylist()
    fingerprint = first.fingerprint
    del first
    damage(Path("cache/corpora", fingerprint))
    watched = Watched()
    assert load_corpus(path, progress=watched).table.to_pylist() == before
    assert watched.times == 1
    assert made() == [fingerprint]


def test_an_interrupted_write_leaves_nothing() -> None:
    path = write("a.jsonl", pages(12_000))

    def interrupt(done: int, total: int) -> None:
        assert any(name.startswith(".tmp-") for name in made())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_corpus(path, progress=interrupt)
    assert made() == []
    assert len(load_corpus(path)) == 12_000


def test_a_mistake_in_the_last_row_leaves_nothing() -> None:
    path = write("a.jsonl", [*pages(12_000), {"text": 5}])
    with pytest.raises(DataError, match=r"^a.jsonl row 12001, column 'text': expected text, found 5 \(int\)"):
        load_corpus(path)
    assert made() == []


def test_two_who_want_the_same_corpus_make_it_once() -> None:
    path = write("a.jsonl", pages(12_000))
    watched = Watched()
    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(lambda _: load_corpus(path, progress=watched), range(4)))
    assert watched.times == 1
    assert {len(corpus) for corpus in loaded} == {12_000}


# -- mistakes ---------------------------------------------------------------------------------------------------------

FORMATS = "(.csv, .tsv, .jsonl, .ndjson, .json, .parquet, .arrow, .txt)"


@pytest.mark.parametrize(
    ("content", "options", "error", "message"),
    [
        (
            "content,body\na,b\n",
            {},
            DataError,
            "a.csv: expected one column that is plainly the text, found the columns content, body, of which content "
            "and body could be meant. Say which it is in the study file: corpus.columns: {text: ...} (the first line "
            "of a csv or tsv must name the columns).",
        ),
        (
            "html\na\n",
            {"columns": {"text": "htm"}},
            DataError,
            "a.csv: expected a column 'htm' for the text, as corpus.columns has it, found the columns html. "
            "Did you mean 'html'? Correct corpus.columns or the file.",
        ),
        (
            "html\na\n",
            {"columns": {"txt": "html"}},
            ConfigError,
            "corpus.columns: unknown name 'txt'. Did you mean 'text'? Known are text, source, each followed by the "
            "column of the file that it is called by there.",
        ),
        (
            "text\n!\n",
            {},
            DataError,
            "a.csv: expected documents, found not a single word. Look at the files, or name another column: "
            "corpus.columns: {text: ...}.",
        ),
        ("text\na\n", {"window": 0}, ConfigError, "corpus.window: expected at least 1 word, found 0."),
    ],
)
def test_mistakes_are_explained(content: str, options: dict[str, Any], error: type[TriviumError], message: str) -> None:
    Path("a.csv").write_text(content)
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        load_corpus("a.csv", **options)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("pile/*.parquet", f"pile/*.parquet: expected data files {FORMATS}, found none. In pile there is a.docx."),
        ("pile", f"pile: expected data files {FORMATS}, found none. In pile there is a.docx."),
        (
            "pile/*",
            f"pile/*: expected data files {FORMATS}, found only a.docx. In pile there is a.docx.",
        ),
        ("pyle", f"pyle: expected data files {FORMATS}, found none. Did you mean 'pile/'? In . there is pile/."),
        ([], "corpus: expected files, patterns or hub addresses, found none. Give at least one."),
    ],
)
def test_nothing_to_read(pattern: Any, message: str) -> None:
    Path("pile").mkdir()
    Path("pile/a.docx").write_text("a")
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        load_corpus(pattern)


def test_a_cache_that_cannot_be_written_is_explained() -> None:
    path = write("a.jsonl", pages(1))
    with pytest.raises(ConfigError, match=r"^corpus: expected a cache folder with room .* TRIVIUM_CACHE\.$"):
        load_corpus(path, cache=Path(path))


def test_a_column_of_ids_is_no_source() -> None:
    path = write("a.jsonl", [{"text": "a", "source": i} for i in range((1 << 16) + 1)])
    message = (
        "a.jsonl row 65537: expected at most 65,536 different sources in the corpus, found one more, '65536'. Say "
        "which column to read and leave the source out: corpus.columns: {text: ...}."
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        load_corpus(path)
    assert len(load_corpus(path, columns={"text": "text"})) == (1 << 16) + 1


# -- memory -----------------------------------------------------------------------------------------------------------

MEASURE = """
import re, sys
from pathlib import Path
from trivium.data import load_corpus
for path in sys.argv[1:]:
    documents = len(load_corpus(path, cache=Path("cache")))
    peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
    print(documents, peak)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the peak of memory")
def test_memory_does_not_grow_with_the_corpus() -> None:
    line = json.dumps({"text": f"{'a' * 200} " * 20}) + "\n"  # few, long words: quick to count
    for name, n in (("small", 6_000), ("large", 24_000)):
        with gzip.open(f"{name}.jsonl.gz", "wt", compresslevel=1) as file:
            file.writelines(f'{{"text": "{i} {line[10:]}' for i in range(n))
    command = [sys.executable, "-c", MEASURE, "small.jsonl.gz", "large.jsonl.gz"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split("\n")
    (small, before), (large, after) = (map(int, line.split()) for line in lines[:2])
    assert (small, large) == (6_000, 24_000)
    text_kib = (large - small) * len(line) / 1024
    assert text_kib > 70_000
    assert after - before < 0.2 * text_kib
    shutil.rmtree("cache")
