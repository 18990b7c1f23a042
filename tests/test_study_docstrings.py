"""The demo's data: rows of one label each, nothing held out in the corpus, and the same bytes wherever it is made."""

import ast
import gzip
import json
import os
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trivium.data import load_corpus, load_task
from trivium.data.words import words
from trivium.errors import ArtifactError, ConfigError, DataError
from trivium.study.docstrings import LABELS, LIBRARIES, docstrings, write_docstrings
from trivium.study.prose import NAMES, plain, summary

SMALL: dict[str, Any] = {"train_per_label": 4, "dev_per_label": 6, "test_per_label": 24}
MODULES = 24  # of each library; number 2 i and 2 i + 1 are copied from each other
STANDARD = (
    "abc", "argparse", "ast", "bisect", "calendar", "cmd", "code", "copy", "csv", "dis", "enum", "fnmatch",
    "ftplib", "glob", "gzip", "heapq", "hmac", "inspect", "locale", "opcode", "operator", "pdb", "queue", "shelve",
)  # fmt: skip
MENTIONS = (
    ":class:`~numpy.ndarray`", "PyTorch", "``np.dot``", "scikit-learn", "the 🤗 Transformers", "Hugging Face",
    "CPython", "pandas.DataFrame", ":func:`matplotlib.pyplot.plot <plot>`", "`SymPy`_", "networkx", "SciPy's",
)  # fmt: skip
SYLLABLES = ("ba", "co", "di", "fu", "ga", "he", "ji", "ko", "lu", "ma", "ne", "pi", "ro", "su", "ta", "ve", "wi", "zu")


def sentence(rng: np.random.Generator, length: int = 14) -> str:
    """A sentence that nobody else says."""
    made = ["".join(rng.choice(SYLLABLES, 3)) for _ in range(length)]
    return f"The {' '.join(made[:5])} of the {' '.join(made[5:])}."


def module_text(rng: np.random.Generator, library: str, number: int, copied: str) -> str:
    """A module that must not be imported, with five functions, the last one copied from a sibling."""
    parts = ["raise SystemExit('imported')"]
    for function in range(5):
        mention = MENTIONS[rng.integers(len(MENTIONS))]
        first = copied if function == 4 else f"{sentence(rng)} Uses {mention} for it."
        parts.append(
            f'def f{function}(a):\n    """{first}\n\n    Parameters\n    ----------\n    a : int\n'
            f'        In{library}{number:02} only, see {library}.\n    """\n    return a'
        )
    return "\n".join(parts)


def modules_of(library: str) -> list[str]:
    return list(STANDARD) if library == "python" else [f"{library}/part{number:02}" for number in range(MODULES)]


def install(site: Path, name: str, files: dict[str, str | bytes], requires: tuple[str, ...] = ()) -> None:
    """Put a package into a folder as pip would."""
    about = site / f"{name.replace('-', '_')}-1.0.dist-info"
    about.mkdir(parents=True)
    lines = [f"Requires-Dist: {one}" for one in requires]
    (about / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *lines, ""]))
    (about / "RECORD").write_text("".join(f"{file},,\n" for file in files))
    write_files(site, files)


def write_files(folder: Path, files: dict[str, str | bytes]) -> None:
    for file, text in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(text if isinstance(text, bytes) else text.encode())


@dataclass(frozen=True)
class Machine:
    """A machine with made-up versions of everything."""

    site: Path
    stdlib: Path

    def write(self, folder: Path, **more: Any) -> Any:
        return write_docstrings(folder, packages=[self.site], stdlib=self.stdlib, **{**SMALL, **more})


def make_machine(root: Path) -> Machine:
    machine = Machine(root / "site-packages", root / "stdlib")
    rng = np.random.default_rng(0)
    texts: dict[str, dict[str, str | bytes]] = {}
    for library in LABELS:
        copied = [sentence(rng) for _ in range(MODULES // 2)]
        texts[library] = {
            f"{name}.py": module_text(rng, library, number, copied[number // 2])
            for number, name in enumerate(modules_of(library))
        }
    write_files(machine.stdlib, texts.pop("python"))
    write_files(machine.stdlib, {"site-packages/x.py": '"""Installed."""', "turtle.py": '"""Turtle."""'})
    everything = [text for of in texts.values() for text in of.values()]
    covered = "\n".join(
        f"class C{i}:\n{indented(str(text)).replace('Parameters', 'Arguments.')}" for i, text in enumerate(everything)
    )
    for library, name in LIBRARIES.items():
        suite: dict[str, str | bytes] = {f"{library}/tests/test_all.py": f'"""{sentence(rng)} A test suite."""'}
        build = ("triton==3", "nvidia-cublas>12; sys_platform != 'none'") if name == "torch" else ()
        install(machine.site, name, texts[library] | suite, ("veneer[speed]>=1", "absent; extra == 'all'", *build))
    install(machine.site, "triton", {"triton.py": f'"""{sentence(rng)} Of a build for GPUs."""'}, ("cuda-bindings",))
    install(machine.site, "veneer", {"veneer.py": covered}, ("helper; extra == 'speed'",))
    install(
        machine.site, "helper", {"helper.py": f'"""{sentence(rng)} A helper."""'}, ("gone; sys_platform == 'none'",)
    )
    install(machine.site, "stranger", {"stranger.py": f'"""{sentence(rng)} A stranger."""'})
    own: dict[str, str | bytes] = {"trivium/own.py": f'"""{sentence(rng)} Of our own."""'}
    install(machine.site, "trivium", own, tuple(LIBRARIES.values()))
    return machine


def indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return make_machine(tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="module")
def written(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written") / "data"
    machine.write(folder)
    return folder


def rows(folder: Path, *splits: str) -> list[dict[str, str]]:
    return [json.loads(line) for split in splits for line in (folder / f"{split}.jsonl").read_text().splitlines()]


def corpus(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in gzip.decompress((folder / "corpus.jsonl.gz").read_bytes()).splitlines()]


def runs(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + 8]) for i in range(len(found) - 7)}


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


# -- rows -------------------------------------------------------------------------------------------------------------


def test_every_label_has_as_many_rows_as_were_asked_for(written: Path) -> None:
    for split in ("train", "dev", "test"):
        assert Counter(row["label"] for row in rows(written, split)) == dict.fromkeys(
            LABELS, SMALL[f"{split}_per_label"]
        )


def test_a_row_comes_from_its_module_and_its_label(machine: Machine, written: Path) -> None:
    for row in rows(written, "train", "dev", "test"):
        standard = row["label"] == "python"
        path = (machine.stdlib if standard else machine.site) / f"{row['module'].replace('.', '/')}.py"
        assert standard or row["module"].split(".")[0] == row["label"]
        assert row["text"] in {summary(text) for text in docstrings(path.read_bytes())}


def test_no_row_names_a_library(written: Path) -> None:
    texts = [row["text"].lower() for row in rows(written, "train", "dev", "test")]
    assert not [text for text in texts if any(name in text for name in (*NAMES, "hugging", "🤗"))]
    assert sum("library" in text for text in texts) > len(texts) / 2


def test_no_two_rows_are_near_copies(written: Path) -> None:
    for first, second in combinations([runs(row["text"]) for row in rows(written, "train", "dev", "test")], 2):
        assert first
        assert first.isdisjoint(second)


def test_modules_that_copy_from_each_other_are_in_one_split(written: Path) -> None:
    splits: dict[tuple[str, int], set[str]] = {}
    for split in ("train", "dev", "test"):
        for row in rows(written, split):
            modules = [module.replace("/", ".") for module in modules_of(row["label"])]
            splits.setdefault((row["label"], modules.index(row["module"]) // 2), set()).add(split)
    assert len(splits) > 3 * len(LABELS)
    assert all(len(of) == 1 for of in splits.values())


def test_dev_and_test_do_not_depend_on_how_many_rows_train(machine: Machine, written: Path, tmp_path: Path) -> None:
    machine.write(tmp_path / "more", train_per_label=9)
    for split in ("dev", "test"):
        assert rows(tmp_path / "more", split) == rows(written, split)
    fewer = rows(written, "train")
    assert rows(tmp_path / "more", "train")[: len(fewer)] == fewer


def test_another_seed_draws_other_rows(machine: Machine, written: Path, tmp_path: Path) -> None:
    machine.write(tmp_path / "other", seed=1)
    first, second = ({row["text"] for row in rows(folder, "test")} for folder in (written, tmp_path / "other"))
    assert first != second


# -- the corpus -------------------------------------------------------------------------------------------------------


def test_no_document_is_a_near_copy_of_a_row(written: Path) -> None:
    held: set[tuple[str, ...]] = set().union(*(runs(row["text"]) for row in rows(written, "train", "dev", "test")))
    documents = corpus(written)
    assert any(document["source"] == "veneer" for document in documents)  # which copied all that the others say
    assert not [document for document in documents if not held.isdisjoint(runs(plain(document["text"])))]


def test_no_document_is_from_a_family_of_a_held_out_row(written: Path) -> None:
    read = " ".join(document["text"] for document in corpus(written) if document["source"] != "veneer")
    for row in rows(written, "dev", "test"):
        number = [module.replace("/", ".") for module in modules_of(row["label"])].index(row["module"])
        for sibling in (number, number ^ 1):
            assert f"In{row['label']}{sibling:02} " not in read
    trained = {row["module"] for row in rows(written, "train")}
    assert all(f"In{module.replace('.part', '')} " in read for module in trained if "." in module)


def test_documents_are_whole_docstrings_as_they_are(machine: Machine, written: Path) -> None:
    documents = [document for document in corpus(written) if document["source"] == "numpy"]
    paths = (machine.site / "numpy").glob("*.py")
    original = {text for path in paths for text in docstrings(path.read_bytes())}
    assert documents
    assert all(document["text"] in original for document in documents)
    assert any("see numpy." in document["text"] for document in documents)


def test_only_what_trivium_requires_is_read(written: Path) -> None:
    documents = corpus(written)
    assert {document["source"] for document in documents} == {*LABELS, "veneer", "helper"}
    texts = " ".join(document["text"] for document in documents)
    assert "A helper." in texts  # by way of an extra that somebody asks for
    assert not [
        left
        for left in ("A stranger.", "Of our own.", "A test suite.", "Of a build", "Turtle.", "Installed.")
        if left in texts
    ]


def test_it_loads_as_a_task_and_a_corpus(written: Path, tmp_path: Path) -> None:
    task = load_task(written, kind="classify", metric="macro_f1")
    assert task.labels == LABELS
    assert {split: len(task.rows(split)) for split in task.tables} == {
        split: SMALL[f"{split}_per_label"] * len(LABELS) for split in ("train", "dev", "test")
    }
    loaded = load_corpus(written / "corpus.jsonl.gz", cache=tmp_path)
    assert set(loaded.sources(range(len(loaded)))) == {document["source"] for document in corpus(written)}


# -- how it is written ------------------------------------------------------------------------------------------------


def test_done_tells_what_was_written(machine: Machine, tmp_path: Path) -> None:
    done = machine.write(tmp_path / "data")
    told = json.loads((tmp_path / "data" / "done.json").read_text())
    assert told == json.loads(json.dumps(asdict(done)))
    documents = corpus(tmp_path / "data")
    assert done.documents == Counter(document["source"] for document in documents)
    assert done.characters == sum(len(document["text"]) for document in documents)
    found = [*machine.stdlib.glob("*.py"), *machine.site.glob("*.py"), *machine.site.glob("*/part*.py")]
    left = {machine.stdlib / "turtle.py", machine.site / "stranger.py", machine.site / "triton.py"}
    total = sum(len(docstrings(path.read_bytes())) for path in set(found) - left)
    assert len(documents) + sum(sum(of.values()) for of in done.aside.values()) == total
    assert done.versions.keys() == {"python", "trivium", "veneer", "helper", *LIBRARIES.values()}


def test_place_and_hash_seed_do_not_matter(written: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from trivium.study.docstrings import write_docstrings; "
        f"write_docstrings(Path(sys.argv[1]), packages=[sys.argv[2]], stdlib=Path(sys.argv[3]), **{SMALL})"
    )
    for hash_seed in ("1", "2"):
        elsewhere = make_machine(tmp_path / f"another place {hash_seed}")
        folder = tmp_path / f"out{hash_seed}"
        command = [sys.executable, "-c", script, str(folder), str(elsewhere.site), str(elsewhere.stdlib)]
        subprocess.run(command, check=True, env=os.environ | {"PYTHONHASHSEED": hash_seed})
        assert contents(folder) == contents(written)


def test_nothing_is_imported(machine: Machine, tmp_path: Path) -> None:
    before = set(sys.modules)
    machine.write(tmp_path / "data")  # every module that it reads would end the process
    assert not [name for name in set(sys.modules) - before if ".part" in name or name in {"veneer", "helper"}]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_an_interrupted_call_leaves_nothing(machine: Machine, tmp_path: Path, share: float) -> None:
    def stop(done: float, total: float) -> None:
        if done >= share * total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        machine.write(tmp_path / "data", progress=stop)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_what_was_there(
    machine: Machine, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.write(tmp_path / "data")

    def fail(*_: Any) -> int:
        raise OSError("disk full")

    monkeypatch.setattr(gzip.GzipFile, "write", fail)
    for name in ("data", "new"):
        with pytest.raises(OSError, match="disk full"):
            machine.write(tmp_path / name, seed=5)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert contents(tmp_path / "data") == contents(written)


def test_an_earlier_one_is_replaced_and_other_files_are_not(machine: Machine, written: Path, tmp_path: Path) -> None:
    machine.write(tmp_path / "data", seed=1)
    machine.write(tmp_path / "data")
    assert contents(tmp_path / "data") == contents(written)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("Years of work.")
    with pytest.raises(ArtifactError, match="other files"):
        machine.write(tmp_path / "thesis")
    assert contents(tmp_path / "thesis") == {"chapter.txt": b"Years of work."}


def test_progress_grows_to_the_end(machine: Machine, tmp_path: Path) -> None:
    seen: list[float] = []
    machine.write(tmp_path / "data", progress=lambda done, total: seen.append(done / total))
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.0, 1.0)


# -- what can be wrong ------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Machine]:
    return make_machine(tmp_path / "machine")


def test_a_missing_package_is_named_with_the_way_to_install_it(fresh: Machine, tmp_path: Path) -> None:
    for name in ("pandas", "scikit_learn"):
        for file in (fresh.site / f"{name}-1.0.dist-info").iterdir():
            file.unlink()
        (fresh.site / f"{name}-1.0.dist-info").rmdir()
    with pytest.raises(DataError, match=r"found no pandas, scikit-learn.*pip install pandas scikit-learn"):
        fresh.write(tmp_path / "data")


def test_a_library_that_is_too_small_is_named_with_what_it_has(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"docstrings of matplotlib: expected 300 rows .* test split.*found 96\..*test_per_label"
    ):
        machine.write(tmp_path / "data", test_per_label=300)
    assert not list(tmp_path.iterdir())


def test_a_split_without_rows_is_refused(machine: Machine, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dev_per_label: expected at least 1 row, found 0"):
        machine.write(tmp_path / "data", dev_per_label=0)


def test_broken_modules_are_left_out_and_told(fresh: Machine, written: Path, tmp_path: Path) -> None:
    bad: dict[str, str | bytes] = {
        "numpy/bad_syntax.py": "def f(:\n",
        "numpy/bad_bytes.py": b'"""\xff\xfe is no UTF-8"""',
        "numpy/bad_nul.py": b'"""a"""\0',
        "numpy/bad_depth.py": "x = " + "(" * 5000 + ")" * 5000,
    }
    write_files(fresh.site, bad)
    record = fresh.site / "numpy-1.0.dist-info" / "RECORD"
    record.write_text(record.read_text() + "".join(f"{file},,\n" for file in [*bad, "numpy/bad_gone.py"]))
    done = fresh.write(tmp_path / "data")
    assert sorted(done.broken) == sorted(
        [f"numpy.{n}" for n in ("bad_bytes", "bad_depth", "bad_gone", "bad_nul", "bad_syntax")]
    )
    for file in ("train.jsonl", "dev.jsonl", "test.jsonl", "corpus.jsonl.gz"):
        assert (tmp_path / "data" / file).read_bytes() == (written / file).read_bytes()


def test_docstrings_that_are_no_text_are_left_out(fresh: Machine, written: Path, tmp_path: Path) -> None:
    text = sentence(np.random.default_rng(9))
    odd = f'def a():\n    "{text} \\ud800"\ndef b():\n    "{text} \\0"\n'
    write_files(fresh.site, {"helper.py": (fresh.site / "helper.py").read_text() + "\n" + odd})
    fresh.write(tmp_path / "data")
    assert contents(tmp_path / "data") == contents(written)


# -- prose ------------------------------------------------------------------------------------------------------------


def test_docstrings_are_found_wherever_python_looks_for_them() -> None:
    folder = Path(sysconfig.get_path("stdlib"))
    for name in ("typing", "dataclasses", "contextlib", "asyncio/tasks", "json/decoder", "doctest"):
        source = (folder / f"{name}.py").read_bytes()
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        every = [ast.get_docstring(node) for node in ast.walk(ast.parse(source)) if isinstance(node, documented)]
        assert Counter(docstrings(source)) == Counter(text for text in every if text)


LEAD = "Return the largest of the values that the given tree holds in its leaves."


@pytest.mark.parametrize(
    "rest",
    [
        "\n\nParameters\n----------\ntree : dict\n    A tree.",
        "\n\nArgs:\n    tree: A tree.",
        "\n\n:param tree: A tree.\n:returns: A leaf.",
        "\n\n>>> largest({})\n0",
        "\n\n.. versionadded:: 1.2\n   Of great use.",
        "\n\n- a list\n- of things",
        "\n\n    some = code()",
        "\n\nFor more of this and for some examples, see https://example.org/trees.",
        "\n\nTo use it with a forest, do the following:\n\n>>> largest(forest)",
        "\n\n```python\nlargest(tree)\n```",
    ],
)
def test_what_is_no_prose_is_left_out(rest: str) -> None:
    assert summary(LEAD + rest) == LEAD


@pytest.mark.parametrize(
    "docstring",
    [
        "Too short to be of use.",
        "",
        "Copyright 2020 by the authors. " + LEAD,
        "x = 1\n" * 40,
        LEAD.replace("tree", "%(tree)s"),
    ],
)
def test_what_says_nothing_is_no_row(docstring: str) -> None:
    assert summary(docstring) is None


@pytest.mark.parametrize(
    ("marked", "shown"),
    [
        (":meth:`~a.B.c` and :ref:`the guide <guide>`", "c and the guide"),
        ("[`Trainer`] and [the paper](https://x.org)", "Trainer and the paper"),
        ("``x`` or **bold** or *slanted*, 2 * 3 * 4", "x or bold or slanted, 2 * 3 * 4"),
        ("`a link <https://x.org>`_ as in [1]_.", "a link as in."),
        ("NumPy's np.dot, but NP-hard", "library's library.dot, but NP-hard"),
        ("the scikit-learn library, Hugging Face", "the library, library"),
        ("an open `tick and `x`", "an open tick and x"),
    ],
)
def test_markup_shows_what_a_reader_sees(marked: str, shown: str) -> None:
    assert plain(marked) == shown


def test_a_summary_is_short_and_in_one_line() -> None:
    long = " ".join(sentence(np.random.default_rng(i)) for i in range(20))
    for text in (long, long.replace(".", ","), LEAD.replace(" of ", "\nof ")):
        found = summary(text)
        assert found is not None
        assert "\n" not in found
        assert 12 <= len(found.split()) <= 80
