"""The demo's data: docstrings of the Python packages that are on every machine with trivium.

The task is to say from the first sentences of a docstring, names of libraries taken out, which library it is from. The
corpus is all other docstrings of eight words or more, whole and as they are, the same ones once. Modules are parsed,
never imported, and nothing is downloaded. Only the standard library and what trivium requires are read, so that the
same versions of these give the same files, wherever they lie and whatever else is installed. Test suites are left out,
and so is what a build of PyTorch brings along for its GPUs.

Docstrings are copied and adapted from module to module. Here two texts are *near-copies* if they share eight words in
a row, markup and names of libraries aside, and modules of a library are a *family* if their docstrings begin with
near-copies, directly or through other modules. Then

- a row is no near-copy of how any other docstring of the libraries begins, and no document is a near-copy of a row;
- a family is in one split only;
- no docstring at all of a family with dev or test rows is in the corpus, nor one that is the same: what is read about
  a library is not about the modules that one is examined in. Some families are a large part of their library, and its
  corpus would be empty without them: they have no dev or test rows. ``done.json`` tells how many docstrings each rule
  leaves aside.
"""

import ast
import gc
import gzip
import json
import platform
import re
import sys
import sysconfig
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path, PurePath
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from trivium import seeds
from trivium.core import Split
from trivium.data.place import problem, shortened
from trivium.data.words import count_words, words
from trivium.errors import ArtifactError, ConfigError, DataError
from trivium.store import atomic_folder
from trivium.study.prose import plain, summary

Progress = Callable[[float, float], None]
Run = tuple[str, ...]

STANDARD = "python"
LIBRARIES: Mapping[str, str] = {  # as they are imported, and as they are installed
    "matplotlib": "matplotlib",
    "networkx": "networkx",
    "numpy": "numpy",
    "pandas": "pandas",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "sympy": "sympy",
    "torch": "torch",
    "transformers": "transformers",
}
LABELS = tuple(sorted([*LIBRARIES, STANDARD]))

_RUN = 8  # words in a row that two texts do not share by chance
_COMMON = 4  # a run in more modules than this is a stock phrase, and makes no family
_FROM_FAMILY = 10  # rows in a split at most, so that no single module is half of it
_LARGE = 0.1  # of a library's rows: a larger family is never held out

_TESTS = frozenset(["test", "tests", "testing"])
_FOREIGN = frozenset(["_vendor", "_vendored", "extern", "externals", "third_party", "vendor", "vendored"])
_APART = frozenset(  # parts of the standard library that some systems install separately and later versions drop
    ["distutils", "ensurepip", "idlelib", "lib2to3", "msilib", "tkinter", "turtle", "turtledemo", "venv"]
)
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_INNER = frozenset(["body", "handlers", "cases", "orelse", "finalbody"])
_FOR_GPUS = re.compile(r"(nvidia|cuda|rocm|amd|intel)-.*|(pytorch-)?triton(-.*)?")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True)
class Docstrings:
    """What was written; ``done.json`` says the same.

    Attributes:
        rows: How many, by split and label.
        documents: How many, by source.
        characters: How long the documents are together.
        aside: Docstrings that are neither row nor document: why, and how many by source.
        broken: Modules that could not be read or parsed, and were left out.
        versions: Of Python and of every package that was read.
        seed: What the rows were drawn with.
    """

    rows: Mapping[str, Mapping[str, int]]
    documents: Mapping[str, int]
    characters: int
    aside: Mapping[str, Mapping[str, int]]
    broken: tuple[str, ...]
    versions: Mapping[str, str]
    seed: int


class _Module(NamedTuple):
    source: str
    name: str
    path: Path


class _Docstring(NamedTuple):
    text: str
    summary: str | None
    source: str
    module: str


class _Row(NamedTuple):
    text: str
    label: str
    module: str
    runs: frozenset[Run]


_Splits = Mapping[Split, Sequence[_Row]]


def write_docstrings(
    folder: Path,
    *,
    train_per_label: int = 15,
    dev_per_label: int = 30,
    test_per_label: int = 150,
    seed: int = 0,
    packages: Sequence[str | Path] | None = None,
    stdlib: Path | None = None,
    progress: Progress | None = None,
) -> Docstrings:
    """Write ``train.jsonl``, ``dev.jsonl``, ``test.jsonl``, ``corpus.jsonl.gz`` and, last, ``done.json``.

    A row has ``text``, ``label`` and ``module``; a document has ``text`` and ``source``, the package that it is of. Dev
    and test rows do not depend on ``train_per_label``, and training rows are the first of any greater number of them.

    Args:
        folder: Where to; all of it appears at once, or nothing does. What an earlier call wrote there is replaced.
        train_per_label: Training rows of each library.
        dev_per_label: Dev rows of each.
        test_per_label: Test rows of each.
        seed: Draws the rows.
        packages: Folders in which packages are installed; none takes ``sys.path``.
        stdlib: Folder of the standard library; none takes this Python's.
        progress: Told now and then how much is done, and of how much.

    Raises:
        ConfigError: a split without rows is asked for.
        DataError: a package that trivium requires is missing, or a library has too few docstrings.
        ArtifactError: the folder holds something else.
    """
    per_label: dict[Split, int] = {"test": test_per_label, "dev": dev_per_label, "train": train_per_label}
    for split, wanted in per_label.items():
        if wanted < 1:
            raise ConfigError(f"{split}_per_label: expected at least 1 row, found {wanted}.")
    if folder.exists() and any(folder.iterdir()) and not (folder / "done.json").exists():
        raise ArtifactError(f"{folder}: expected no folder, or an earlier one, found other files. Name another folder.")
    installed = _read_from(packages)
    modules = [*_installed_modules(installed), *_standard_modules(stdlib or Path(sysconfig.get_path("stdlib")))]
    found, broken = _read(modules, _part(progress, 0.0, 0.8))
    rows = _rows(found)
    families = _families(rows)
    splits = _draw(_distinct(rows), families, per_label, seed)
    documents, aside = _documents(found, splits, families, _part(progress, 0.8, 1.0))
    done = Docstrings(
        rows={split: dict(Counter(row.label for row in drawn)) for split, drawn in splits.items()},
        documents=dict(Counter(document.source for document in documents)),
        characters=sum(len(document.text) for document in documents),
        aside=aside,
        broken=broken,
        versions=_versions(installed),
        seed=seed,
    )
    _write(folder, splits, documents, done)
    return done


def versions() -> dict[str, str]:
    """Of Python and of every package that ``write_docstrings`` would read here: the same versions, the same files.

    Raises:
        DataError: a package that trivium requires is missing.
    """
    return _versions(_read_from(None))


def _read_from(packages: Sequence[str | Path] | None) -> dict[str, Distribution]:
    return _required(["trivium", *LIBRARIES.values()], [str(p) for p in (sys.path if packages is None else packages)])


def _versions(installed: Mapping[str, Distribution]) -> dict[str, str]:
    return {STANDARD: platform.python_version()} | {name: installed[name].version for name in sorted(installed)}


def _write(folder: Path, splits: _Splits, documents: Sequence[_Docstring], done: Docstrings) -> None:
    """All files, complete, in one rename."""
    with atomic_folder(folder) as scratch:
        for split, rows in splits.items():
            lines = _lines({"text": row.text, "label": row.label, "module": row.module} for row in rows)
            (scratch / f"{split}.jsonl").write_bytes(lines)
        lines = _lines({"text": document.text, "source": document.source} for document in documents)
        with (scratch / "corpus.jsonl.gz").open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
            packed.write(lines)  # neither a name nor a time in it, so that the same documents are the same bytes
        (scratch / "done.json").write_text(json.dumps(asdict(done), indent=1), encoding="utf-8")


def _lines(values: Iterable[Mapping[str, str]]) -> bytes:
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values).encode()


def _part(progress: Progress | None, begin: float, end: float) -> Progress:
    """The bar of one part of the work, as a share of the whole bar."""
    if progress is None:
        return lambda done, total: None
    return lambda done, total: progress(begin + (end - begin) * done / max(total, 1), 1.0)


# -- what is installed ------------------------------------------------------------------------------------------------


def _required(names: Sequence[str], path: list[str]) -> dict[str, Distribution]:
    """Some distributions and all that they require, by name.

    What they require on other systems, for other versions of Python, for extras that nobody asks for, or for GPUs is
    left out.
    """
    found: dict[str, Distribution] = {}
    missing: set[str] = set()
    seen: set[tuple[str, str]] = set()
    todo = [(str(canonicalize_name(name)), "") for name in names]  # with the extra that is asked for
    while todo:
        name, extra = wanted = todo.pop()
        if wanted in seen:
            continue
        seen.add(wanted)
        distribution = next(iter(distributions(name=name, path=path)), None)
        if distribution is None:
            missing.add(name)
            continue
        found[name] = distribution
        for requirement in map(Requirement, distribution.requires or ()):
            required = str(canonicalize_name(requirement.name))
            asked = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
            if asked and not _FOR_GPUS.fullmatch(required):
                todo += [(required, one) for one in ("", *requirement.extras)]
    if missing:
        raise problem(
            "the docstrings of installed packages",
            expected="trivium and all that it requires",
            found=f"no {shortened(sorted(missing))}",
            way_out=f"Install what is missing: pip install {' '.join(sorted(missing))}",
        )
    return found


def _installed_modules(installed: Mapping[str, Distribution]) -> Iterator[_Module]:
    """The modules that came with some distributions; trivium's own are not among them."""
    for name in sorted(installed.keys() - {"trivium"}):
        for file in sorted(installed[name].files or (), key=str):
            inside = ".." not in file.parts and not file.parts[0].endswith((".dist-info", ".data"))
            if file.suffix == ".py" and inside and not _TESTS.intersection(file.parts):
                module = _dotted(file)
                yield _Module(module.partition(".")[0], module, Path(str(installed[name].locate_file(file))))


def _standard_modules(folder: Path) -> Iterator[_Module]:
    """The modules of the standard library that are the same on all systems."""
    for name in sorted(sys.stdlib_module_names - _APART):
        single = folder / f"{name}.py"
        for path in [single] if single.exists() else sorted((folder / name).rglob("*.py"), key=Path.as_posix):
            file = path.relative_to(folder)
            if not _TESTS.intersection(file.parts):
                yield _Module(STANDARD, _dotted(file), path)


def _dotted(file: PurePath) -> str:
    """How a file is imported."""
    *packages, last = file.with_suffix("").parts
    return ".".join(packages if last == "__init__" else [*packages, last])


def _read(modules: Sequence[_Module], watch: Progress) -> tuple[list[_Docstring], tuple[str, ...]]:
    """All docstrings, and the modules that could not be read."""
    found: list[_Docstring] = []
    broken: list[str] = []
    with _no_collection():
        for done, module in enumerate(modules):
            if done % 100 == 0:
                watch(done, len(modules))
            try:
                texts = docstrings(module.path.read_bytes())
            except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):  # the last two: nested too deep
                broken.append(module.name)
                continue
            texts = [text for text in texts if not _NO_TEXT.search(text)]
            found += [_Docstring(text, summary(text), module.source, module.name) for text in texts]
    return found, tuple(broken)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Do without garbage collection: syntax trees are many objects and no cycles, and it is a third of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def docstrings(source: bytes) -> list[str]:
    r"""The docstrings of a module and of all that is in it, from top to bottom. Nothing is run.

    Raises:
        SyntaxError: it is not Python, or not of this version.

    >>> docstrings(b'class A:\n  "An A."\n  def b(self):\n    "Its b."')
    ['An A.', 'Its b.']
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in strings, and the code is not ours
        todo: list[ast.AST] = [ast.parse(source)]
    found = []
    while todo:
        node = todo.pop()
        if isinstance(node, _DOCUMENTED) and (text := ast.get_docstring(node)):
            found.append(text)
        todo += reversed([inner for part in node._fields if part in _INNER for inner in getattr(node, part)])
    return found


# -- which of them are rows -------------------------------------------------------------------------------------------


def _runs(text: str) -> Iterator[Run]:
    """All runs of ``_RUN`` words."""
    found = words(text)
    return zip(*(found[i:] for i in range(_RUN)), strict=False)


def _rows(found: Sequence[_Docstring]) -> list[_Row]:
    """The docstrings of the libraries that begin with prose."""
    rows = []
    for docstring in found:
        if docstring.summary and docstring.source in LABELS and not _FOREIGN.intersection(docstring.module.split(".")):
            runs = frozenset(_runs(docstring.summary))
            if runs:
                rows.append(_Row(docstring.summary, docstring.source, docstring.module, runs))
    return rows


def _distinct(rows: Sequence[_Row]) -> list[_Row]:
    """The rows that are no near-copies of others."""
    times = Counter(run for row in rows for run in row.runs)
    return [row for row in rows if all(times[run] == 1 for run in row.runs)]


def _families(rows: Sequence[_Row]) -> dict[str, str]:
    """The family of each module, by the name of one of its modules."""
    parent = {row.module: row.module for row in rows}

    def head(module: str) -> str:
        while parent[module] != module:
            parent[module] = module = parent[parent[module]]
        return module

    times = Counter(run for row in rows for run in row.runs)
    sharing: defaultdict[tuple[str, Run], set[str]] = defaultdict(set)
    for row in rows:
        for run in row.runs:
            if times[run] > 1:
                sharing[row.label, run].add(row.module)
    for modules in sharing.values():
        if len(modules) <= _COMMON:
            first, *others = sorted(modules)
            for other in others:
                parent[head(other)] = head(first)
    name: dict[str, str] = {}
    return {module: name.setdefault(head(module), module) for module in sorted(parent)}


def _draw(rows: Sequence[_Row], families: Mapping[str, str], per_label: Mapping[Split, int], seed: int) -> _Splits:
    """So many rows of each label for each split, the labels taking turns; a family is in one split only."""
    drawn: dict[Split, list[list[_Row]]] = {split: [] for split in per_label}
    for label in LABELS:
        members: defaultdict[str, list[_Row]] = defaultdict(list)
        for row in rows:
            if row.label == label:
                members[families[row.module]].append(row)
        large = _LARGE * sum(map(len, members.values()))
        for split, wanted in per_label.items():
            rng = seeds.numpy_rng(seed, "docstrings", label, split)
            some: list[_Row] = []
            for family in rng.permutation(sorted(members)).tolist():
                if len(some) < wanted and (split == "train" or len(members[family]) <= large):
                    its = members.pop(family)
                    some += [its[i] for i in rng.permutation(len(its))[:_FROM_FAMILY]]
            if len(some) < wanted:
                raise _too_few(label, split, wanted, len(some))
            drawn[split].append(some[:wanted])
    return {split: [row for turn in zip(*of, strict=True) for row in turn] for split, of in drawn.items()}


def _too_few(label: str, split: Split, wanted: int, found: int) -> DataError:
    return problem(
        f"the docstrings of {label}",
        expected=f"{wanted} rows for the {split} split, from modules that no other split uses",
        found=str(found),
        way_out="Ask for fewer with test_per_label, dev_per_label or train_per_label, or install another version of "
        f"{LIBRARIES.get(label, label)}.",
    )


# -- which are documents ----------------------------------------------------------------------------------------------


def _documents(
    found: Sequence[_Docstring], splits: _Splits, families: Mapping[str, str], watch: Progress
) -> tuple[list[_Docstring], dict[str, dict[str, int]]]:
    """The corpus; and why docstrings are not in it, and how many of each source."""
    runs = frozenset(run for rows in splits.values() for row in rows for run in row.runs)
    held_out = frozenset(families[row.module] for split in ("dev", "test") for row in splits[split])
    hidden = frozenset(docstring.text for docstring in found if families.get(docstring.module) in held_out)
    seen: set[str] = set()

    def reason(docstring: _Docstring) -> str | None:
        text = docstring.text
        if text in hidden:
            return "family of a dev or test row"
        if count_words(text) < _RUN:
            return f"fewer than {_RUN} words"
        if text in seen:
            return "same as another"
        if not (runs.isdisjoint(_runs(plain(text))) and runs.isdisjoint(_runs(docstring.summary or ""))):
            return "row or near-copy of one"
        return None

    documents: list[_Docstring] = []
    aside: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for done, docstring in enumerate(found):
        if done % 1000 == 0:
            watch(done, len(found))
        why = reason(docstring)
        if why:
            aside[why][docstring.source] += 1
        else:
            documents.append(docstring)
            seen.add(docstring.text)
    watch(len(found), len(found))
    return documents, {why: dict(of) for why, of in sorted(aside.items())}
