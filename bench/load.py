"""Far more of everything than usual: how long it takes and in how much memory.

    python bench/load.py                      all of them; ten million passages take some 10 GB of disk
    python bench/load.py rows classes         some
    python bench/load.py passages --passages 1000000 10000000

Each is a study of a tiny encoder on made-up text, run by the command line in a process of its own. ``passages`` is
``bench/documents.py`` with more documents: memory should be the same with ten times as many.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_WORDS = 20_000
_TUNE = {"preset": "finetune", "updates": 20, "batch_rows": 16, "max_length": 64}
_JOINT = {
    "preset": "tlm-joint",
    "updates": 20,
    "mix": {"documents": 2, "task": 1},
    "batch_tokens": 1024,
    "max_length": 64,
}
_BESIDE = {"preset": "multitask", "updates": 100, "batch_rows": 16, "max_length": 64}


class Seen(NamedTuple):
    """What a command took: seconds, and MB of the largest of its processes, pages of mapped files among them."""

    seconds: float
    memory: float
    text: str


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure studies that are far larger than usual.")
    parser.add_argument("cases", nargs="*", default=[*STUDIES, "passages"], help=f"{', '.join(STUDIES)}, passages")
    parser.add_argument("--passages", type=int, nargs="+", default=[1_000_000, 10_000_000])
    given = parser.parse_args()
    for case in given.cases:
        for line in passages(given.passages) if case == "passages" else [study(case)]:
            print(line, flush=True)


def study(case: str) -> str:
    """A study of a case, run; what it took, and that it came to a verdict."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = STUDIES[case](folder, np.random.default_rng(0))
        raw = {"name": case, "seeds": 1, "encoder": "tiny", "engine": {"workers": 1}, **config}
        (folder / "study.yaml").write_text(json.dumps(raw))  # JSON is YAML
        seen = run("-m", "trivium", "run", f"{folder}/study.yaml", "--runs", f"{folder}/runs", "--quiet")
        page = (folder / "runs" / case / "report.html").stat().st_size / 1e6
        told = json.loads((folder / "runs" / case / "verdict.json").read_text())
        failed = [arm for arm, about in told["arms"].items() if about["failed"]]
        assert not failed, failed
    return f"{case:10} {seen.seconds:7.0f} s {seen.memory:8,.0f} MB   report {page:.1f} MB"


def passages(sizes: list[int]) -> Iterator[str]:
    """Passages indexed and searched; memory held is that of the process, without pages of mapped files."""
    for many in sizes:
        asked = ["--documents", str(many), "--only", "trivium", "--judged", "0", "--queries", "50", "--rounds", "1"]
        seen = run(str(Path(__file__).with_name("documents.py")), *asked, "--pruned", "1.0")
        held = re.search(r"most memory ever held, MB: trivium ([\d,]+)", seen.text)
        built = re.search(r"^trivium +([\d.]+) s", seen.text, re.MULTILINE)
        assert held, seen.text
        assert built, seen.text
        yield f"passages   {seen.seconds:7.0f} s {held[1]:>8} MB   {many:,}; indexed in {built[1]} s"


def run(*command: str) -> Seen:
    """A command in a process of its own; its text goes to whoever asked if it fails."""
    begun = time.monotonic()
    with (
        tempfile.TemporaryFile("w+") as out,
        subprocess.Popen([sys.executable, *command], stdout=out, stderr=out) as one,
    ):
        _, status, used = os.wait4(
            one.pid, 0
        )  # of this process and its own; `getrusage` knows the largest of all alone
        one.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        text = out.read()
    if one.returncode:
        sys.exit(f"{' '.join(command)}: {one.returncode}\n{text}")
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    return Seen(time.monotonic() - begun, peak, text)


def texts(rng: np.random.Generator, many: int, words: int) -> Iterator[str]:
    """Texts of words as frequent as Zipf's law has them."""
    chances = np.cumsum(1 / np.arange(1, _WORDS + 1))
    names = np.array([f"w{n}" for n in range(_WORDS)], object)
    for start in range(0, many, 1000):
        drawn = np.searchsorted(chances, rng.random((min(1000, many - start), words)) * chances[-1])
        yield from (" ".join(line) for line in names[drawn])


def write_task(path: Path, rng: np.random.Generator, rows: int, classes: int) -> str:
    """Rows of thirty words, one of which tells the class."""
    with path.open("w", encoding="utf-8") as file:
        file.write("text,label\n")
        for n, text in enumerate(texts(rng, rows, 29)):
            file.write(f"{text} sign{n % classes},class {n % classes}\n")
    return str(path)


def write_corpus(path: Path, rng: np.random.Generator, documents: int) -> str:
    """Documents of 80 words."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{text}\n\n" for text in texts(rng, documents, 80))
    return str(path)


def many_rows(folder: Path, rng: np.random.Generator) -> dict[str, Any]:
    """200,000 labelled rows, each of which asks for documents."""
    chosen = {"kind": "bm25", "per_query": 2, "max_tokens": 200_000}
    return {
        "task": {"path": write_task(folder / "task.csv", rng, 200_000, 4)},
        "corpus": write_corpus(folder / "corpus.txt", rng, 50_000),
        "arms": {"finetune": {"stages": [_TUNE]}, "tlm": {"documents": chosen, "stages": [_JOINT, _TUNE]}},
    }


def long_document(folder: Path, rng: np.random.Generator) -> dict[str, Any]:
    """A document of 50 MB, in one line, among a thousand others."""
    with Path(write_corpus(folder / "corpus.txt", rng, 1000)).open("a", encoding="utf-8") as file:
        size = 0
        for text in texts(rng, 10**9, 1000):
            size += file.write(text + ". ")
            if size > 50e6:
                break
    chosen = {"kind": "bm25", "per_query": 5, "max_tokens": 100_000}
    return {
        "task": {"path": write_task(folder / "task.csv", rng, 1000, 4)},
        "corpus": f"{folder}/corpus.txt",
        "arms": {"finetune": {"stages": [_TUNE]}, "tlm": {"documents": chosen, "stages": [_JOINT, _TUNE]}},
    }


def many_tasks(folder: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Fifty tasks that may be learned beside."""
    beside = [
        {"path": write_task(folder / f"task-{n}.csv", rng, 300, 2 + n % 5), "name": f"task-{n}"} for n in range(50)
    ]
    chosen = {"kind": "gradts", "seeds": 1, "epochs": 1, "decide": "top", "top": 5, "max_length": 64}
    stages = [_BESIDE, _TUNE]
    return {
        "task": {"path": write_task(folder / "task.csv", rng, 500, 4)},
        "auxiliary_tasks": beside,
        "arms": {
            "all": {"auxiliary": {"kind": "all"}, "stages": stages},
            "gradts": {"auxiliary": chosen, "stages": stages},
        },
        "baseline": "all",
    }


def many_classes(folder: Path, rng: np.random.Generator) -> dict[str, Any]:
    """A thousand classes of twelve rows."""
    stages = [{**_TUNE, "updates": 300}]
    return {
        "task": {"path": write_task(folder / "task.csv", rng, 12_000, 1000)},
        "arms": {"finetune": {"stages": stages}, "slow": {"stages": [{**stages[0], "lr": 1e-4}]}},
    }


STUDIES: dict[str, Callable[[Path, np.random.Generator], dict[str, Any]]] = {
    "rows": many_rows,
    "document": long_document,
    "tasks": many_tasks,
    "classes": many_classes,
}

if __name__ == "__main__":
    main()
