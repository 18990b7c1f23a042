"""The plan beside what came: six small studies of different shapes are checked, run, and compared.

    python bench/plan.py [--quick]

Each study is checked and then run, both in processes of their own and with a fresh cache. Time is that of the run as
its manifest has it; memory, the most that the run and its workers had together, looked at five times a second; disk,
the size of the run folder, a file with several names counted once; FLOPs, those of every stage that was trained. A
band should hold nine times in ten; the exit code is 1 where that of time or of memory does not in more than one study.
``--quick`` shortens every study.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from trivium.store import room

Study = dict[str, Any]
WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "lmnrst"]
MISSES = 1  # bands that may not hold


def sentence(rng: np.random.Generator, topic: int, length: int) -> str:
    """Words, some of them of a topic."""
    own = rng.random(length) < 0.4
    chosen = np.where(own, topic * 40 + rng.integers(0, 40, length), rng.integers(120, len(WORDS), length))
    return " ".join(WORDS[i] for i in chosen)


def rows(kind: str, many: int, rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Rows of a made-up task of three topics."""
    for _ in range(many):
        topic = int(rng.integers(3))
        text = sentence(rng, topic, int(rng.integers(8, 40)))
        if kind == "tag":
            tokens = text.split()
            yield {"tokens": tokens, "labels": ["T" if WORDS.index(word) < 120 else "O" for word in tokens]}
        else:
            yield {"text": text, "label": topic / 2 if kind == "regress" else f"topic {topic}"}


def write(folder: Path) -> None:
    """Tasks of three kinds, and a corpus."""
    rng = np.random.default_rng(0)
    for kind in ("classify", "tag", "regress", "beside"):
        (folder / kind).mkdir()
        for split, many in (("train", 400), ("dev", 100), ("test", 200)):
            lines = "".join(json.dumps(row) + "\n" for row in rows(kind, many, rng))
            (folder / kind / f"{split}.jsonl").write_text(lines)
    texts = (sentence(rng, int(rng.integers(3)), int(rng.integers(20, 120))) for _ in range(6000))
    (folder / "corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


def shapes(folder: Path, updates: int) -> dict[str, Study]:
    """Studies that differ in kind, choices, stages and workers."""
    tune = {"preset": "finetune", "updates": updates, "patience": None}
    joint, tapt = {"preset": "tlm-joint", "updates": updates}, {"preset": "tapt", "updates": updates}
    reads = {"kind": "bm25", "per_query": 10, "max_tokens": 60_000}
    effort = {"seeds": 2, "epochs": 1, "trial_epochs": 1}
    candidates = [{"path": str(folder / name), "kind": name, "name": name} for name in ("tag", "regress")]

    def study(kind: str, arms: Study, **keys: Any) -> Study:
        task = {"path": str(folder / kind), "kind": kind}
        common = {"seeds": 2, "encoder": {"scratch": "tiny", "vocabulary": 1024}, "engine": {"workers": 2}}
        return {"task": task, **common, "arms": {"finetune": {"stages": [tune]}, **arms}, **keys}

    corpus = {"corpus": str(folder / "corpus.jsonl")}
    return {
        "documents": study("classify", {"tlm": {"documents": reads, "stages": [joint, tune]}}, **corpus),
        "statistics": study("tag", {"pmi": {"masker": {"kind": "pmi"}, "stages": [tapt, {**tune, "patience": 2}]}}),
        "tasks beside": study(
            "classify",
            {"gradts": {"auxiliary": {"kind": "gradts", **effort}, "stages": [{**tune, "preset": "multitask"}, tune]}},
            auxiliary_tasks=candidates,
        ),
        "learned masks": study(
            "classify",
            {"nmg": {"masker": {"kind": "nmg", "episodes": 20, "contexts": 40, "assess": 4}, "stages": [tapt, tune]}},
            seeds=1,
        ),
        "a shared stage": study(
            "classify",
            {
                name: {"stages": [{**tapt, "updates": 4 * updates}, {**tune, "freeze": layers}]}
                for name, layers in (("all", 0), ("half", 1), ("head", 2))
            },
            seeds=3,
        ),
        "one worker": study(
            "regress",
            {"dsir": {"documents": {"kind": "dsir", "max_tokens": 60_000}, "stages": [joint, tune]}},
            engine={"workers": 1},
            **corpus,
        ),
    }


def trivium(verb: str, file: Path, cache: Path, *more: str, watch: Callable[[int], None] | None = None) -> Any:
    """What a verb prints with ``--json``, in a process of its own."""
    command = [sys.executable, "-m", "trivium", verb, str(file), "--json", *more]
    environment = {**os.environ, "TRIVIUM_CACHE": str(cache), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as told:
        process = subprocess.Popen(command, stdout=out, stderr=told, env=environment)
        while process.poll() is None:
            if watch is not None:
                watch(process.pid)
            time.sleep(0.2)
        if process.returncode:
            told.seek(0)
            raise SystemExit(told.read().decode()[-2000:])
        out.seek(0)
        return json.loads(out.read())


def resident(pid: int) -> int:
    """Bytes that a process and those that it started have in memory."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it is gone
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(resident(int(child)) for child in children)


def compared(name: str, study: Study, folder: Path) -> dict[str, tuple[float, float, float, float]]:
    """Of each quantity: planned, its ends, and what came."""
    file, root = folder / f"{name}.yaml", folder / "runs" / name
    file.write_text(yaml.safe_dump({"name": name, **study}))
    plan = trivium("check", file, folder / f"cache-{name}-1")
    most = 0

    def watch(pid: int) -> None:
        nonlocal most
        most = max(most, resident(pid))

    trivium("run", file, folder / f"cache-{name}-2", "--runs", str(folder / "runs"), watch=watch)
    found = {
        "seconds": json.loads((root / "manifest.json").read_text())["seconds"],
        "memory": most,
        "disk": room(root),
        "flops": sum(json.loads(each.read_text())["flops"] for each in root.glob("artifacts/stage-*/trace.json")),
    }
    return {what: (plan[what], plan[f"{what}_low"], plan[f"{what}_high"], value) for what, value in found.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a few updates each")
    updates = 20 if parser.parse_args().quick else 150
    held = {"seconds": 0, "memory": 0}
    units = {"seconds": ("s", 1.0), "memory": ("MiB", 2.0**20), "disk": ("MiB", 2.0**20), "flops": ("G", 1e9)}
    print(f"{'study':<14} {'what':<8} {'planned':>9} {'low':>9} {'high':>9} {'came':>9}  held")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write(folder)
        studies = shapes(folder, updates)
        for title, study in studies.items():
            for what, numbers in compared(title.replace(" ", "-"), study, folder).items():
                unit, size = units[what]
                low, high, came = numbers[1:]
                within = low <= came <= high
                if what in held:
                    held[what] += within
                told = " ".join(f"{number / size:9.1f}" for number in numbers)
                print(f"{title:<14} {what:<8} {told}  {'yes' if within else 'no':<3} ({unit})", flush=True)
    print(", ".join(f"{what}: {many} of {len(studies)}" for what, many in held.items()))
    raise SystemExit(min(held.values()) < len(studies) - MISSES)


if __name__ == "__main__":
    main()
