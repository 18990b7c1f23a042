"""What people hand in by mistake: files, paths and study files that no loader may trip over.

A ``Case`` is written into an empty folder and read there. Its message has to say where (``place``) and what to do
(``way``), both as regular expressions.
"""

import gzip
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
import zstandard

from trivium.config import load_config
from trivium.data import load_corpus, load_task, read_lines, read_texts, sniff
from trivium.study.arms import resolve

Rows = Sequence[Mapping[str, Any]]


class Case(NamedTuple):
    """An input that is wrong.

    Attributes:
        id: What is wrong with it.
        files: Names and contents; of ``name -> target``, a symbolic link.
        load: Reads it.
        place: What the message says of where.
        way: What it says of the way out.
        new: The file to hand to ``trivium new`` too, if that has to refuse it.
    """

    id: str
    files: Mapping[str, bytes]
    load: Callable[[], object]
    place: str
    way: str
    new: str = ""

    def write(self) -> None:
        """Put its files into the current folder."""
        for name, content in self.files.items():
            link, arrow, target = name.partition(" -> ")
            Path(link).parent.mkdir(parents=True, exist_ok=True)
            if arrow:
                Path(link).symlink_to(target)
            else:
                Path(name).write_bytes(content)


# -- good files, to be spoiled ----------------------------------------------------------------------------------------

GOOD: Mapping[str, list[dict[str, Any]]] = {
    "classify": [{"text": f"some text {i}", "label": "ab"[i % 2]} for i in range(12)],
    "multilabel": [{"text": f"some text {i}", "labels": [["a"], ["b"], ["a", "b"]][i % 3]} for i in range(12)],
    "regress": [{"text": f"some text {i}", "score": i / 2} for i in range(12)],
    "rank": [{"question": f"what is {i}", "choices": ["this", "that"], "label": i % 2} for i in range(12)],
    "tag": [{"tokens": ["Ann", f"word{i}"], "tags": ["B-PER", "O"]} for i in range(12)],
    "span": [
        {"question": f"what is {i}", "context": f"the cell {i}", "answers": {"text": ["cell"], "answer_start": [4]}}
        for i in range(12)
    ],
}
CONLL = "".join(f"Ann\tB-PER\nsees{i}\tO\n\n" for i in range(12))
CONLLU = "".join(
    f"# sentence {i}\n1\tAnn\tann\tPROPN\t_\t_\t2\tnsubj\t_\t_\n2\tsees{i}\tsee\tVERB\t_\t_\t0\troot\t_\t_\n\n"
    for i in range(12)
)
SQUAD: dict[str, Any] = {
    "version": "1",
    "data": [
        {
            "title": f"t{i}",
            "paragraphs": [
                {
                    "context": f"the cell {i}",
                    "qas": [{"id": str(i), "question": "what", "answers": [{"text": "cell", "answer_start": 4}]}],
                }
            ],
        }
        for i in range(6)
    ],
}
MRQA: list[Any] = [
    {"header": {"dataset": "x"}},
    *(
        {
            "context": f"the cell {i}",
            "qas": [{"question": "what", "detected_answers": [{"text": "cell", "char_spans": [[4, 7]]}]}],
        }
        for i in range(6)
    ),
]
STUDY: dict[str, Any] = {
    "name": "demo",
    "task": {"path": "reviews"},
    "corpus": "corpus.jsonl",
    "arms": {
        "finetune": {"stages": [{"preset": "finetune"}]},
        "tlm": {"documents": {"kind": "bm25"}, "stages": [{"preset": "tlm-joint"}, {"preset": "finetune"}]},
    },
}
STUDY_TEXT = yaml.safe_dump(STUDY, sort_keys=False)


def jsonl(rows: Sequence[Any]) -> bytes:
    """Rows as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def delimited(rows: Rows, sign: str = ",") -> bytes:
    """Rows as csv without quotes."""
    return "".join(sign.join(map(str, line)) + "\n" for line in [rows[0], *(row.values() for row in rows)]).encode()


def parquet(table: Any) -> bytes:
    """A table, or rows, as a Parquet file."""
    out = io.BytesIO()
    pq.write_table(table if isinstance(table, pa.Table) else pa.Table.from_pylist(list(table)), out)
    return out.getvalue()


def squad(*path: Any, value: Any) -> bytes:
    """SQuAD's tree with something else at a place."""
    return json.dumps(changed(SQUAD, path, value)).encode()


def changed(tree: Any, path: Sequence[Any], value: Any) -> Any:
    """A copy of a tree of dicts and lists with another value at a place."""
    if not path:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[path[0]] = changed(tree[path[0]] if path[1:] else None, path[1:], value)
    return copy


def spoiled(kind: str, **values: Any) -> bytes:
    """The good rows of a kind, of which the fifth has other values."""
    return jsonl([{**row, **values} if i == 4 else row for i, row in enumerate(GOOD[kind])])


# -- how cases are written ----------------------------------------------------------------------------------------------


def task(id: str, name: str, content: bytes | str, place: str, way: str, *, new: bool = False, **options: Any) -> Case:
    """A file that is no task."""
    files = {name: content.encode() if isinstance(content, str) else content}
    return Case(f"task: {id}", files, lambda: load_task(name, **options), place, way, name if new else "")


def kind(of: str, id: str, content: bytes, column: str, way: str) -> Case:
    """A task of a kind whose fifth row is wrong."""
    return task(
        f"{of}: {id}", f"{of}.jsonl", content, rf"^{of}\.jsonl row 5, column '{column}': expected", way, kind=of
    )


def corpus(id: str, files: Mapping[str, bytes], pattern: Any, place: str, way: str, **options: Any) -> Case:
    """Files that are no corpus."""
    return Case(f"corpus: {id}", files, lambda: load_corpus(pattern, cache=Path("cache"), **options), place, way)


def answers(id: str, name: str, content: bytes, place: str, way: str, **options: Any) -> Case:
    """A file of rows that ``trivium predict`` cannot ask a model about."""
    return Case(f"predict: {id}", {name: content}, lambda: list(read_texts(name, **options)), place, way)


def study(id: str, text: str | bytes, place: str, way: str, *overrides: str) -> Case:
    """A study file that is none, or with overrides that do not fit."""
    content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return Case(f"study: {id}", {"s.yaml": content}, lambda: resolve(load_config("s.yaml", overrides)), place, way)


def override(written: str, place: str, way: str) -> Case:
    """A good study file with an override that does not fit."""
    case = study(written[:60], STUDY_TEXT, place, way, written)
    return case._replace(files={**case.files, "override.txt": written.encode()})  # what makes it another input


# -- bytes that are no text -----------------------------------------------------------------------------------------------

_PLAIN: Mapping[str, tuple[bytes, Callable[[str], Callable[[], object]]]] = {
    "a.csv": (delimited(GOOD["classify"]), lambda name: lambda: load_task(name)),
    "a.tsv": (delimited(GOOD["classify"], "\t"), lambda name: lambda: load_task(name)),
    "a.jsonl": (jsonl(GOOD["classify"]), lambda name: lambda: load_task(name)),
    "a.json": (json.dumps(GOOD["classify"], indent=1).encode(), lambda name: lambda: load_task(name)),
    "a.conll": (CONLL.encode(), lambda name: lambda: load_task(name, kind="tag")),
    "a.conllu": (CONLLU.encode(), lambda name: lambda: load_task(name, kind="tag")),
    "squad.json": (json.dumps(SQUAD).encode(), lambda name: lambda: load_task(name, kind="span")),
    "a.txt": (b"a text\n\nanother\n", lambda name: lambda: load_corpus(name, cache=Path("cache"))),
    "texts.csv": (delimited(GOOD["classify"]), lambda name: lambda: list(read_texts(name))),
}


def _encodings() -> Iterator[Case]:
    for name, (good, load) in _PLAIN.items():
        text, middle = good.decode(), len(good) // 2
        spoiled = {
            "UTF-16": text.encode("utf-16"),
            "UTF-16 without a mark": text.encode("utf-16-le"),
            "UTF-32": text.encode("utf-32"),
            "Latin 1": good[:middle] + b"\xe9" + good[middle:],
            "a NUL byte": good[:middle] + b"\0" + good[middle:],
            "half a character": good[:middle] + "é".encode()[:1] + good[middle:],
        }
        for what, content in spoiled.items():
            yield Case(f"{name} in {what}", {name: content}, load(name), rf"^{name}.*line \d", "(?i)save it as utf-8")


def _packed() -> Iterator[Case]:
    pack = {".gz": gzip.compress, ".zst": zstandard.compress}
    for plain in ("a.csv", "a.jsonl", "a.conll", "a.txt"):
        good, load = _PLAIN[plain]
        for suffix, packed in pack.items():
            name, whole = plain + suffix, packed(good * 50)
            bad = {"not packed": good, "cut off": whole[: len(whole) // 2], "begins wrong": b"xx" + whole[2:]}
            for what, content in bad.items():
                yield Case(f"{name}: {what}", {name: content}, load(name), rf"^{name}", "Copy the file again")
            yield Case(f"{name}: empty", {name: b""}, load(name), rf"^{name}: ", "Write it again")
    whole = gzip.compress(_PLAIN["a.csv"][0])
    yield task("gzip with another checksum", "a.csv.gz", whole[:-8] + b"abcd" + whole[-4:], r"^a\.csv\.gz", "Copy")


# -- rows that are no rows ------------------------------------------------------------------------------------------------

_HEAD = "text,label\n" + "".join(f"some text {i},{'ab'[i % 2]}\n" for i in range(4))


def _csv(id: str, lines: str, place: str, way: str) -> Case:
    return task(id, "a.csv", _HEAD + lines, rf"^a\.csv {place}", way, new=True)


_LONG = "x" * 5_000_000

ROWS_THAT_ARE_NONE = [
    _csv("csv: a quote never closed", '"open,a\nb,a\n', r"row 5 \(line", 'write a double quote in it as ""'),
    _csv("csv: a quote closed too early", '"open" text,a\n', "row 5", "double quotes"),
    _csv("csv: a field too many", "one, two,a\n", r"row 5 .*expected 2 fields", "double quotes"),
    _csv("csv: a field too few", "one\n", r"row 5 .*expected 2 fields.*found 1", "double quotes"),
    _csv("csv: 5 MB in a field too many", f"{_LONG},b,c\n", "row 5", "double quotes"),
    _csv("csv: 5 MB never closed", f'"{_LONG}\n', "row 5", "double quotes"),
    task("csv: old line ends", "a.csv", _HEAD.replace("\n", "\r"), r"^a\.csv header", "double quotes", new=True),
    task("csv: a column twice", "a.csv", "text,label,label\na,b,c\n", r"^a\.csv header", "Rename or remove", new=True),
    task("csv: two columns without a name", "a.csv", "text,label,,\na,b,c,d\n", r"^a\.csv header", "Rename", new=True),
    task("csv: no text column", "a.csv", "label,other\na,b\n", r"^a\.csv: .*the text", r"task\.columns"),
    task("csv: no label column", "a.csv", "text,other\na,b\n", r"^a\.csv: .*the label", r"task\.columns"),
    task("csv: two text columns", "a.csv", "sentence,content,label\na,b,c\n", r"^a\.csv.*could be meant", "columns"),
    task("csv: semicolons", "a.csv", "text;label\na;b\n", r"^a\.csv header", "separated by ';'"),
    task("csv: no header", "a.csv", "good,pos\nbad,neg\n", r"^a\.csv: .*the text", "first line"),
    task("csv: a header alone", "a.csv", "text,label\n", r"^a\.csv: ", "Write the file again", new=True),
    task("csv: blank", "a.csv", "\n\n\n", r"^a\.csv header", "Write it again"),
    task("csv: empty", "a.csv", "", r"^a\.csv: ", "Write it again", new=True),
    task("csv: one label", "a.csv", "text,label\n" + "".join(f"t{i},a\n" for i in range(9)), "column 'label'", "Add"),
    task("csv: no label anywhere", "a.csv", "text,label\na,\nb,\n", r"^a\.csv: .*filled", "Fill them"),
    task("csv: no text anywhere", "a.csv", "text,label\n,a\n ,b\n", r"^a\.csv: .*filled", "Fill them"),
    task("csv: one row of each label", "a.csv", "text,label\na,x\nb,y\n", r"^a\.csv: .*carve", "Add rows"),
    task("csv: a page of the web", "a.csv", "<!DOCTYPE html>\n<html></html>\n", r"^a\.csv", r"columns"),
    task("json: not closed", "a.json", b'[{"text": "a"', r"^a\.json: .*line 1", "JSON library", new=True),
    task("json: a word", "a.json", b"hello", r"^a\.json row 1 \(line 1\)", "JSON library"),
    task("json: a number", "a.json", b"3", r"^a\.json row 1", "name of its column"),
    task("json: null", "a.json", b"null", r"^a\.json row 1", "name of its column"),
    task("json: lists in a list", "a.json", b'[["a", "b"]]', r"^a\.json row 1", "name of its column"),
    task("json: an empty list", "a.json", b"[]", r"^a\.json: ", "Write it again"),
    task("json: an empty object", "a.json", b"[{}]", r"^a\.json: ", r"task\.columns"),
    task("json: deep", "a.json", b"[" * 100_000, r"^a\.json: ", "JSON library", new=True),
    task("json: deep objects", "a.json", b'{"a":' * 100_000, r"^a\.json", "JSON library"),
    task("jsonl: deep", "a.jsonl", jsonl(GOOD["classify"][:4]) + b"[" * 100_000, r"^a\.jsonl row 5", "JSON library"),
    task("jsonl: more digits than Python reads", "a.jsonl", b'{"text": "a", "label": %s}' % (b"9" * 5000), "row 1", "JS"),
    task("jsonl: a comma behind", "a.jsonl", b'{"text": "a", "label": "x",}\n', r"^a\.jsonl row 1", "JSON library"),
    task("jsonl: a mark of byte order inside", "a.jsonl", jsonl(GOOD["classify"]) + b"\xef\xbb\xbf{}", "row 13", "JSON"),
    task("jsonl: two objects in a line", "a.jsonl", b'{"text": "a"} {"text": "b"}\n', r"row 1 \(line 1\)", "JSON"),
    task("jsonl: a name twice", "a.jsonl", b'{"text": "a", "label": 1, "label": 2}\n', "row 1.*'label'", "Correct it"),
    task("jsonl: half a character as a name", "a.jsonl", b'{"text": "a", "\\ud83d": "b", "label": 1}\n', r"^a\.jsonl row 1", "Write the file again"),
    task("jsonl: a field left out", "a.jsonl", jsonl([*GOOD["classify"], {"text": "a"}]), "row 13.*'label'", "Add it"),
    task("parquet: text under this suffix", "a.parquet", _HEAD, r"^a\.parquet: ", "correct its suffix", new=True),
    task("parquet: cut off", "a.parquet", parquet(GOOD["classify"])[:-20], r"^a\.parquet", "Copy or write it again"),
    task("parquet: no rows", "a.parquet", parquet(pa.table({"text": pa.array([], "string"), "label": pa.array([], "string")})), r"^a\.parquet", "Write"),
    task("parquet: no columns", "a.parquet", parquet(pa.table({})), r"^a\.parquet: ", r"task\.columns"),
    task("parquet: a column twice", "a.parquet", parquet(pa.table([["a"], ["b"], ["c"]], ["text", "text", "label"])), r"^a\.parquet", "Rename"),
    task("parquet: texts in bytes", "a.parquet", parquet(pa.table({"text": [b"a", b"b"], "label": ["x", "y"]})), r"row 1, column 'text'", "Correct"),
    task("parquet: a year beyond the calendar", "a.parquet", parquet(pa.table({"text": ["a"], "label": pa.array([2**61], pa.timestamp("us"))})), r"^a\.parquet row 1", "write it again"),
    task("parquet: labels that are times", "a.parquet", parquet(pa.table({"text": ["a"], "label": pa.array([1], pa.timestamp("s"))})), r"row 1, column 'label'", r"task\.columns"),
    task("arrow: text under this suffix", "a.arrow", _HEAD, r"^a\.arrow", "correct its suffix"),
    task("conll: one column", "a.conll", "Ann\nsees\n", r"^a\.conll row 1 \(line 1\)", "Put a tab", kind="tag"),
    task("conll: ragged", "a.conll", CONLL + "Ann B-PER more\n", r"^a\.conll row 13 \(line 37\)", "Put a tab", kind="tag"),
    task("conll: blank", "a.conll", "\n\n", r"^a\.conll", "Write the file again", kind="tag"),
    task("conll: a tag left out", "a.conll", "Ann\t\nsees\tO\n", r"a\.conll row 1, column '1'", "usually O", kind="tag"),
    task("conllu: two columns", "a.conllu", "1\tAnn\n", r"^a\.conllu row 1 \(line 1\)", "Put a tab", kind="tag"),
    task("conllu: comments alone", "a.conllu", "# a\n# b\n", r"^a\.conllu", "Write the file again", kind="tag"),
]  # fmt: skip

# -- values that no row of a kind may have --------------------------------------------------------------------------------

_HUGE = 10**400  # beyond any float, but fit for JSON
_SURROGATE = "half \ud83d"

VALUES_THAT_ARE_NONE = [
    *(kind("classify", f"text {v!r:.20}", spoiled("classify", text=v), "text", "Correct the row")
      for v in (3, True, ["a"], {"a": 1}, float("inf"))),
    kind("classify", "half a character", spoiled("classify", text=_SURROGATE), "text", "Write the file again"),
    kind("classify", "NUL in a text", spoiled("classify", text="a\0b"), "text", "Take it out"),
    *(kind("classify", f"label {v!r:.20}", spoiled("classify", label=v), "label", "Correct the row")
      for v in (0.5, ["a"], {"a": 1}, float("inf"))),
    kind("classify", "half a character as label", spoiled("classify", label=_SURROGATE), "label", "Write the file again"),
    kind("classify", "NUL in a label", spoiled("classify", label="a\0b"), "label", "Take it out"),
    *(kind("multilabel", f"{v!r:.20}", spoiled("multilabel", labels=v), "labels", "Correct the row")
      for v in (0.5, {"a": 1}, [["a"]], [0.5])),
    kind("multilabel", "an empty one", spoiled("multilabel", labels=["a", None]), "labels", "Take it out"),
    *(kind("regress", f"{v!r:.20}", spoiled("regress", score=v), "score", "Correct the row")
      for v in ("much", "1,5", True, [1], _HUGE, float("inf"), "1e999", "0x10")),
    *(kind("rank", f"label {v!r:.20}", spoiled("rank", label=v), "label", "Correct the row")
      for v in (2, -2, 0.5, "other", [0], True, _HUGE, "9" * 5000, "C")),
    *(kind("rank", f"choices {v!r:.20}", spoiled("rank", choices=v), "choices", "Correct the row")
      for v in ("this", 3, [], ["this"], ["this", None], ["this", 3], {"text": 3, "label": 4},
                {"text": ["a", "b"], "label": 5}, {"text": ["a"], "label": ["A", "B"]}, [{"text": "a"}])),
    *(kind("tag", f"tags {v!r:.20}", spoiled("tag", tags=v), "tags", way)
      for v, way in (("O O", "Write lists"), (["O"], "Correct the row"), (["O", None], "usually O"),
                     (["O", ["O"]], "Correct the row"), (["O", 0.5], "Correct the row"), ({"a": 1}, "Write lists"))),
    *(kind("tag", f"tokens {v!r:.20}", spoiled("tag", tokens=v), "tokens", way)
      for v, way in (("Ann sees", "Write lists"), (["Ann", 3], "Correct the row"), (["Ann", "a\0"], "Take it out"))),
    *(kind("span", f"answers {v!r:.60}", spoiled("span", answers=v), "answers", "Correct the row|Correct answer_start")
      for v in (3, "cell", ["cell"], {"text": ["cell"]}, {"text": ["cell"], "answer_start": [4, 5]},
                {"text": ["cell"], "answer_start": 4}, {"text": ["cell"], "answer_start": [0.5]},
                {"text": ["cell"], "answer_start": [_HUGE]}, {"text": ["cell"], "answer_start": [float("inf")]},
                {"text": ["cell"], "answer_start": [float("nan")]}, {"text": ["cell"], "answer_start": ["four"]},
                {"text": ["elsewhere"], "answer_start": [4]}, {"text": ["elsewhere"], "answer_start": [-9]},
                {"text": ["elsewhere"], "answer_start": [10**9]}, [{"text": "cell", "answer_start": None}],
                [{"text": "cell", "char_spans": [[4]]}], [{"text": "cell", "char_spans": 4}])),
    kind("span", "an empty answer", spoiled("span", answers={"text": [""], "answer_start": [4]}), "answers", "Take it out"),
]  # fmt: skip


def _trees() -> Iterator[Case]:
    first = ("data", 0, "paragraphs", 0)
    for path, value in (
        ((*first, "qas"), 3),
        ((*first, "qas"), [3]),
        ((*first, "qas"), [{"id": "1"}]),
        (first, []),
        (("data", 0, "paragraphs"), None),
        (("data", 1), 3),
    ):
        content = squad(*path, value=value)
        where = r"^squad\.json"
        yield task(f"SQuAD: {path[-1]} {value!r}", "squad.json", content, where, "one object for each", kind="span")
    for path, value in (((*first, "context"), 3), ((*first, "qas", 0, "question"), ["what"])):
        content = squad(*path, value=value)
        yield task(f"SQuAD: {path[-1]} {value!r}", "squad.json", content, "row 1, column", "Correct", kind="span")
    for id, passage in {
        "no list": 3,
        "no context": {"qas": []},
        "questions that are none": {"context": "a", "qas": ["what"]},
        "spans that are none": {"context": "a", "qas": [{"question": "q", "detected_answers": [{"text": "a"}]}]},
    }.items():
        content = jsonl([*MRQA, passage])
        yield task(f"MRQA: {id}", "mrqa.jsonl", content, r"^mrqa\.jsonl row \d+", "Correct it|Give each", kind="span")


# -- splits and labels ------------------------------------------------------------------------------------------------------

_GOOD_CSV = delimited(GOOD["classify"])
_SPLITS = {"d/train.csv": _GOOD_CSV, "d/dev.csv": _GOOD_CSV, "d/test.csv": _GOOD_CSV}


def _folder(id: str, files: Mapping[str, bytes], place: str, way: str, path: Any = "d", **options: Any) -> Case:
    return Case(f"task: {id}", files, lambda: load_task(path, **options), place, way)


SPLITS_THAT_ARE_NONE = [
    _folder("a test label that train has not", {**_SPLITS, "d/test.csv": b"text,label\nx,c\n"}, r"d/test\.csv row 1", "Fix the row"),
    _folder("a dev label with another case", {**_SPLITS, "d/dev.csv": b"text,label\nx,A\n"}, r"d/dev\.csv row 1", r"task\.labels"),
    _folder("a test label of 5 MB", {**_SPLITS, "d/test.csv": f"text,label\nx,{_LONG}\n".encode()}, r"d/test\.csv row 1", "Fix the row"),
    _folder("a test file without labels", {**_SPLITS, "d/test.csv": b"text\nx\n"}, r"d/test\.csv: ", "move it away"),
    _folder("a test file with other columns", {**_SPLITS, "d/test.csv": b"body,label\nx,a\n"}, r"d/test\.csv: ", "Correct"),
    _folder("no train file", {"d/test.csv": _GOOD_CSV}, "^d: ", "Rename it"),
    _folder("two train files", {**_SPLITS, "d/train.jsonl": b"{}"}, "^d: .*train split", "Move the others away"),
    _folder("an empty folder", {"d/.keep": b""}, "^d: ", "Rename it"),
    _folder("a split in a folder", {"d/train.csv/x": b""}, "^d: ", "Rename it"),
    _folder("a mapping without train", _SPLITS, r"^task\.path: ", "needs rows to train on", {"dev": "d/dev.csv"}),
    _folder("a mapping with another split", _SPLITS, r"^task\.path: .*'tset'", "Did you mean 'test'", {"train": "d/train.csv", "tset": "d/test.csv"}),
    _folder("a mapping to a folder", _SPLITS, "^d: .*a folder", "In .* there is", {"train": "d"}),
    _folder("a link to itself", {"d/train.csv -> train.csv": b""}, "^d: ", "Rename it"),
    _folder("labels listed that miss one", _SPLITS, r"row 2, column 'label'", r"task\.labels", labels=["a", "c"]),
    _folder("labels listed twice", _SPLITS, r"^task\.labels", "expected at least 2 different", labels=["a", "a"]),
    _folder("an unknown kind", _SPLITS, r"^task\.kind", "Did you mean 'classify'", kind="clasify"),
    _folder("a column that is not there", _SPLITS, r"^d/train\.csv: .*'body'", r"Correct task\.columns", columns={"text": "body"}),
    _folder("a column number that is not there", _SPLITS, r"^d/train\.csv: .*number -1", r"Correct task\.columns", columns={"text": -1}),
    _folder("a column that is nothing of ours", _SPLITS, r"^task\.columns", "Did you mean 'text'", columns={"txet": "text"}),
    _folder("rows of no split", _SPLITS, r"^task\.rows", "expected train, dev or test", rows={"tset": 3}),
]  # fmt: skip

# -- paths --------------------------------------------------------------------------------------------------------------------

_PATHS = {
    "": ("expected a path, found nothing", "Correct it"),
    " ": ("expected a path, found nothing", "Correct it"),
    "a" * 300 + ".csv": ("File name too long", "Correct it"),
    "d/" * 3000: ("File name too long", "Correct it"),
    "a\0b.csv": ("NUL", "Correct it"),
    "\udcff.csv": ("codec can't encode", "Correct it"),
    "~nobody-of-this-name/a.csv": ("home directory", "Correct it"),
    "nowhere/**/*.csv": ("nowhere/", "In . there is"),
    "d/**/deeper/*/*.csv": ("d/", "In d there is"),
    "[": (r"^\[", "In . there is"),
    "d/tarin.csv": ("^d/tarin.csv", "Did you mean 'train.csv'"),
    "loop.csv": ("^loop.csv: ", "In . there is"),
    "lost.csv": ("^lost.csv: ", "In . there is"),
    "page.docx": ("page.docx", "Save it as one of these|In . there is"),
}
_AROUND = {"d/train.csv": b"text,label\n", "loop.csv -> loop.csv": b"", "lost.csv -> gone.csv": b"", "page.docx": b"PK"}


def _paths() -> Iterator[Case]:
    loaders: Mapping[str, Callable[[str], object]] = {
        "task": load_task,
        "split": lambda path: load_task({"train": path}),
        "corpus": lambda path: load_corpus(path, cache=Path("cache")),
        "predict": read_texts,
        "new": lambda path: sniff([path]),
    }
    for path, (place, way) in _PATHS.items():
        for name, load in loaders.items():
            files = {**_AROUND, "asked.txt": f"{name} {path}".encode("utf-8", "surrogatepass")}
            yield Case(f"path of {name}: {path[:20]!r}", files, lambda load=load, path=path: load(path), place, way)  # type: ignore[misc]


CORPORA_THAT_ARE_NONE = [
    corpus("no pattern", {}, [], "^corpus: ", "Give at least one"),
    corpus("a window of nothing", {"a.txt": b"a"}, "a.txt", r"^corpus\.window", "expected at least 1", window=0),
    corpus("not a word", {"a.txt": b"... !\n\n?\n"}, "a.txt", "^a.txt: ", r"corpus\.columns"),
    corpus("spaces", {"a.txt": b" \n\t\n"}, "a.txt", "^a.txt: ", r"corpus\.columns"),
    corpus("no column", {"a.jsonl": b'{"x": "a"}\n'}, "a.jsonl", r"^a\.jsonl: ", r"corpus\.columns"),
    corpus("a column that is not there", {"a.csv": b"text\na\n"}, "a.csv", r"^a\.csv: .*'body'", r"Correct corpus\.columns", columns={"text": "body"}),
    corpus("a column that is nothing of ours", {"a.csv": b"text\na\n"}, "a.csv", r"^corpus\.columns", "Known are", columns={"label": "text"}),
    corpus("a number", {"a.jsonl": b'{"text": "a"}\n{"text": 3}\n'}, "a.jsonl", "row 2, column 'text'", "Correct the row"),
    corpus("half a character", {"a.jsonl": b'{"text": "\\ud800"}\n'}, "a.jsonl", "row 1, column 'text'", "Write the file"),
    corpus("one file of two", {"a.txt": b"a", "b.txt": b"\xff"}, "*.txt", r"^b\.txt", "UTF-8"),
    corpus("files that are no data", {"a.pdf": b"a", "b.docx": b"b"}, "*", r"^\*: .*only a.pdf, b.docx", "there is"),
    corpus("nothing in a folder", {"d/.keep": b""}, "d", "^d: ", "there is nothing"),
    corpus("a source that is no text", {"a.jsonl": b'{"text": "a", "source": "\\u0000"}\n'}, "a.jsonl", "row 1, column 'source'", "Take it out"),
]  # fmt: skip


def _piped() -> list[dict[str, Any]]:
    with Path("in.txt").open("rb") as file:
        return list(read_lines(file))


_ASKED = jsonl([{"question": "q", "choices": ["a", "b"]}, {"question": "q", "choices": ["a", "b"]}])

ROWS_TO_ANSWER_THAT_ARE_NONE = [
    answers("no text", "a.csv", b"body\na\n", r"^a\.csv: ", "--text"),
    answers("a column that is not there", "a.csv", b"text\na\n", r"^a\.csv: .*'body'", "Correct --text", text_column="body"),
    answers("a column to keep that is not there", "a.csv", b"text\na\n", r"^a\.csv: .*'id'", "Correct --keep", keep={"id": "id"}),
    answers("half a character to keep", "a.jsonl", b'{"text": "a", "id": "\\ud83d"}\n', "row 1, column 'id'", "Write the file again", keep={"id": "id"}),
    answers("an empty text", "a.csv", b"text,id\na,1\n,2\n", "row 2, column 'text'", "Fill it"),
    answers("nan", "a.jsonl", b'{"text": "a"}\n{"text": NaN}\n', "row 2, column 'text'", "Fill it"),
    *(answers(f"choices {v!r}", "a.jsonl", _ASKED + jsonl([{"question": "q", "choices": v}]), "row 3, column 'choices'", "Correct")
      for v in (3, "a", None, [], ["a"], {"text": 3, "label": 4}, {"text": ["a", "b"], "label": {"a": 1}}, [{"text": 3}])),
    *(answers(f"tokens {v!r}", "a.jsonl", jsonl([{"tokens": ["a"]}, {"tokens": v}]), "row 2, column 'tokens'", "Correct|Fill")
      for v in (3, "a b", None, [], ["a", None], [["a"]], {"a": 1})),
    Case("predict: an empty line", {"in.txt": b"a\n\nb\n"}, _piped, "line 2", "Fill it"),
]  # fmt: skip

# -- study files --------------------------------------------------------------------------------------------------------------


def _bomb(levels: int, leaf: str) -> str:
    """Ten aliases of ten aliases of ten …: some hundred bytes that stand for a trillion values."""
    lines = [f"a0: &a0 [{leaf}]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lines) + "\n" + STUDY_TEXT


def _value(written: str, way: str) -> Case:
    return study(f"seeds: {written[:30]}", f"{STUDY_TEXT}seeds: {written}\n", r"^s\.yaml.*(line 15|, seeds)", way)


_LEVELS = ", ".join(f"x{i}: null" for i in range(100))
_NAMED = STUDY_TEXT.replace("name: demo", "name: {}")

STUDIES_THAT_ARE_NONE = [
    study("empty", "", r"^s\.yaml: ", "expected keys such as"),
    study("a comment", "# nothing\n", r"^s\.yaml: ", "expected keys such as"),
    study("a list", "- a\n- b\n", r"^s\.yaml: ", "expected keys such as"),
    study("a tab", "name: a\n\ttask: b\n", r"^s\.yaml: .*line 2", "expected a YAML file"),
    study("two documents", STUDY_TEXT + "---\n" + STUDY_TEXT, r"^s\.yaml: .*line 15", "expected a single document"),
    study("UTF-16", STUDY_TEXT.encode("utf-16"), r"^s\.yaml: ", "Save it as UTF-8"),
    study("Latin 1", b"# caf\xe9\n" + STUDY_TEXT.encode(), r"^s\.yaml: ", "Save it as UTF-8"),
    study("NUL", STUDY_TEXT + 'x: "\0"\n', r"^s\.yaml: ", "special characters are not allowed"),
    study("5 MB", STUDY_TEXT + f"# {_LONG}\n", r"^s\.yaml: .*5,000,\d+ bytes", "at most 262,144"),
    study("a key twice", STUDY_TEXT + "name: other\n", r"^s\.yaml: .*'name'.*line 15", "a second time"),
    study("aliases of aliases", _bomb(12, "x"), r"^s\.yaml: ", "write out what is meant"),
    study("aliases of a long text", _bomb(5, "x" * 10_000), r"^s\.yaml: ", "write out what is meant"),
    study("merges of merges", "m0: &m0 {a: 1}\n" + "".join(f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 10)}]}}\n" for i in range(1, 12)), r"^s\.yaml: ", "write out what is meant"),
    study("an alias of itself", STUDY_TEXT + "screens: &s {duplicates: *s}\n", r"^s\.yaml: ", "write out what is meant"),
    study("a merge of itself", STUDY_TEXT + "screens: &s {<<: *s}\n", r"^s\.yaml: ", "write out what is meant"),
    study("aliases, deep", "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 90)), r"^s\.yaml: ", "take brackets out"),
    study("deep lists", "[" * 5000 + "]" * 5000, r"^s\.yaml: ", "take brackets out"),
    study("deep mappings", STUDY_TEXT + "screens: " + "{a: " * 300 + "1" + "}" * 300 + "\n", r"^s\.yaml: ", "take brackets out"),
    study("deep indentation", "\n".join(" " * i + "a:" for i in range(200)), r"^s\.yaml: ", "take brackets out"),
    study("many unknown keys", STUDY_TEXT + "".join(f"k{i}: 1\n" for i in range(300)), r"^s\.yaml, k0: unknown key", "mistakes more"),
    *(study(f"name: {v}", _NAMED.format(v), rf"^s\.yaml{place}", way) for v, place, way in (
        ("2020-13-45", ": .*line 1", "put quotes around it"), ("!!bool maybe", ": .*line 1", "put quotes around it"),
        ("!!timestamp soon", ": .*line 1", "put quotes"), ("9" * 5000, ": .*line 1", "put quotes around it"),
        ("010", ": .*line 1", "put quotes"), ("!!binary x", ": .*line 1", "expected a YAML file"),
        ("!!python/name:os.system", ": .*line 1", "expected a YAML file"), ("*gone", ": .*line 1", "undefined alias"),
        ("{[a]: b}", ": .*line 1", "unhashable key"), ("on", ", name", "put quotes around it"),
        ("3", ", name", "expected a valid string"), ("../up", ", name", "match pattern"), ("a b", ", name", "match pattern"),
        ('"a\\nb"', ", name", "match pattern"), ('"\\ud800"', ", name", "expected a valid string"),
        ("x" * 300, ", name", "at most 200"), ("", ", name", "expected a valid string"), ("{", ": .*line", "expected ','"),
        ("'open", ": .*line", "quoted scalar"), ("@x", ": .*line 1", "cannot start"), ("|", ", name", "match pattern"),
    )),
    *(_value(v, way) for v, way in (
        ("1:30", "put quotes"), ("0b_", "put quotes"), ("!!int many", "put quotes"), ("yes", "put quotes"), (".nan", "expected"),
        (".inf", "expected"), ("1e999", "expected"), ("-1", "expected greater"), ("0", "expected greater"), ("1001", "expected less"),
        ("2.5", "expected"), ("{a: 1}", "expected"), ("[]", "expected one or more"), ("[1, 1]", "expected one or more different"),
        ("[1, x]", "expected"), ("[.nan]", "expected a finite"), ("9" * 30, "expected less"), (f"[{'9' * 30}]", "expected one or more"),
        ("[[0]]", "expected"), ("null", "expected"),
    )),
    override("", "^''", "expected key=value"),
    override("seeds", "'seeds'", "expected key=value, for example"),
    override("seeds=[", r"'seeds=\['", "is no YAML"),
    override("seeds=2020-13-45", "'seeds=2020-13-45'", "put quotes around it"),
    override("x" * 100_000 + "=1", "xxx", "unknown key"),
    override("a." * 3000 + "b=1", r"^'a\.a\.", "expected at most 32 keys"),
    override("baseline=" + "x" * 100_000, "baseline: ", "expected one of the arms"),
    override("name.x=1", "'name'", "nothing below it"),
    override("arms.tlm.stages.7.lr=1", r"arms\.tlm\.stages\.7", "expected a number from 0 to 1"),
    override("arms.tlm.stages." + "9" * 5000 + ".lr=1", r"arms\.tlm\.stages\.9", "expected a number from 0 to 1"),
    override("arms.tlm.stages.-1.lr=1", r"arms\.tlm\.stages\.-1", "expected a number from 0 to 1"),
    override("taks.path=x", "taks", "did you mean 'task'"),
    override("task.columns={text: yes}", r"task\.columns", "put quotes around it"),
    override("task.labels=[no, yes]", r"task\.labels\.0", "put quotes around it"),
    override("task.rows=yes", r"task\.rows", "put quotes around it"),
    override("task.rows={train: 0}", r"task\.rows\.train", "expected greater"),
    override("task.rows={trian: 3}", r"task\.rows\.trian", "expected 'train'"),
    override("auxiliary_tasks=[{path: x}, 3]", r"auxiliary_tasks\.1", "expected a mapping"),
    override("corpus=3", "corpus", "expected a mapping"),
    override("corpus={path: x, window: 10000000000}", r"corpus\.window", "expected less"),
    override("corpus={path: x, window: -1}", r"corpus\.window", "expected greater"),
    override("budget=soon", "budget", "a time such as"),
    override("budget=0s", "budget", "a time such as"),
    override("budget=-1m", "budget", "a time such as"),
    override(f"budget={'9' * 400}h", "budget", "a time such as"),
    override("engine.workers=0", r"engine\.workers", "expected greater"),
    override("engine.workers=-3", r"engine\.workers", "expected greater"),
    override("engine.workers=1000000", r"engine\.workers", "expected less"),
    override("engine.workers=yes", r"engine\.workers", "put quotes around it"),
    override("engine.workers=.inf", r"engine\.workers", "expected a finite"),
    override("engine=spark", r"engine\.kind", "expected 'local' or 'ray'"),
    override("adaptive={step: 0}", r"adaptive\.step", "expected greater"),
    override("adaptive={most: 2}", r"adaptive\.most", "expected greater"),
    override("adaptive=3", "adaptive", "expected a mapping"),
    override("linear=3", "linear", "expected a valid boolean"),
    override("equal=yes", "equal", "expected 'updates'"),
    override("encoder={}", "^encoder", "expected one of 'scratch'"),
    override('encoder=""', "^encoder", "expected a folder or a hub name"),
    override("encoder={scratch: tiny, pretrained: x}", "^encoder", "expected one of"),
    override("encoder={scratch: huge}", "^encoder, scratch", "expected 'tiny'"),
    override("encoder={scratch: tiny, vocabulary: 100}", r"encoder\.vocabulary", "expected at least 512"),
    override("encoder={scratch: tiny, vocabulary: 99999999999}", r"encoder\.vocabulary", "at most"),
    override("arms={}", "arms", "expected one or more arms"),
    override("arms={on: {stages: [{preset: finetune}]}}", "arms", "put quotes around it"),
    override("arms.x/y={stages: [{preset: finetune}]}", "arms", "becomes a folder's"),
    override("arms." + "x" * 300 + "={stages: [{preset: finetune}]}", "arms", "becomes a folder's"),
    override("arms.tlm.without=[x]", r"arms\.tlm\.without\.0", "expected 'task'"),
    override("arms.tlm.documents={}", r"^arms\.tlm: ", r"Give documents: \{kind: bm25"),
    override("arms.tlm.documents.kind=[x]", r"arms\.tlm\.documents", "expected 'kind', one of bm25"),
    override("arms.tlm.documents.kind=bm52", r"arms\.tlm\.documents", "did you mean 'bm25'"),
    override("arms.tlm.documents.kind='json:loads'", r"arms\.tlm\.documents", "expected a dataclass"),
    override("arms.tlm.documents.kind='no.such.module:X'", r"arms\.tlm\.documents", "PYTHONPATH"),
    override('arms.tlm.documents.kind="a\\0b:c"', r"arms\.tlm\.documents", "PYTHONPATH"),
    override("arms.tlm.documents.per_qeury=3", r"arms\.tlm\.documents", "did you mean 'per_query'"),
    override("arms.tlm.masker={kind: nmg, preset: [x]}", r"arms\.tlm\.masker", "known are modern"),
    override("arms.tlm.masker={kind: pos, tags: {NOUN: .nan}}", r"arms\.tlm\.masker", "expected weights above 0"),
    override("arms.tlm.stages=[]", r"arms\.tlm\.stages", "at least 1 item"),
    override("arms.tlm.stages.0.preset=[x]", r"arms\.tlm\.stages\.0", "known are finetune"),
    override("arms.tlm.stages.0.preset={}", r"arms\.tlm\.stages\.0", "known are finetune"),
    override("arms.tlm.stages.0={mix: {task: 1}}", r"arms\.tlm\.stages\.0, name", "this key is missing"),
    override("arms.tlm.stages.0.mix={}", r"arms\.tlm\.stages\.0", "for example"),
    override("arms.tlm.stages.0.mix={documents: 0}", r"arms\.tlm\.stages\.0", "for example"),
    override("arms.tlm.stages.0.mix={task: .inf}", r"arms\.tlm\.stages\.0, mix\.task", "expected a finite"),
    override("arms.tlm.stages.0.sampling={a: -1}", r"sampling\.a", "expected a number from 0"),
    override("arms.tlm.stages.0.class_weight={a: .nan}", r"class_weight\.a", "expected a number from 0"),
    override("arms.tlm.stages.0.class_weight={no: 2}", r"class_weight", "put quotes around it"),
    override("arms.tlm.stages.0.updates=1e3", r"arms\.tlm\.stages\.0, updates", "expected a valid integer"),
    override("arms.tlm.documents.max_tokens='1,000'", r"documents, max_tokens", "expected a valid integer"),
    override(f"grid={{documents: {{{_LEVELS}}}, masker: {{{_LEVELS}}}, stages: [{{preset: finetune}}]}}", r"^s\.yaml, grid", "leave levels out"),
    Case("study: a folder", {"s.yaml/x": b""}, lambda: load_config("s.yaml"), r"^s\.yaml: ", "expected a YAML file"),
    Case("study: a name that cannot be", {}, lambda: load_config("a\0b"), "^a\0b: ", "expected a YAML file"),
    Case("study: missing", {}, lambda: load_config("s.yaml"), r"^s\.yaml: ", "trivium new DATA -o s.yaml"),
]  # fmt: skip

CASES: Sequence[Case] = [
    *_encodings(),
    *_packed(),
    *ROWS_THAT_ARE_NONE,
    *VALUES_THAT_ARE_NONE,
    *_trees(),
    *SPLITS_THAT_ARE_NONE,
    *_paths(),
    *CORPORA_THAT_ARE_NONE,
    *ROWS_TO_ANSWER_THAT_ARE_NONE,
    *STUDIES_THAT_ARE_NONE,
]
