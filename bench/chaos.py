"""Kill a study again and again: what comes out is what an undisturbed run gives, byte for byte.

    python bench/chaos.py [--kills 30] [--seed 0] [--folder FOLDER]

A tiny study with all three choices (BM25 documents, a learned mask, GradTS) and two workers is run once undisturbed, as
`trivium run` does it. Then it is run in another folder, and SIGKILL ends all of its processes again and again: at
random moments, and, every other time, just before a random operation by which a file gets to the disk or gets its name.
A run that comes to its end before all kills are spent is compared, and a fresh one takes its place.

Encoders learn the language in 20 updates instead of 500, and write a checkpoint after every update.

Compared are all files of the run folder: artifacts, weights, selections, scores, verdict, models. What says when
something happened or how long it took is left out, and nothing else: ``TIMES``, the digests in ``done.json`` of files
that hold such a thing, the same in a model card (``CARD_TIMES``), and the report (it is written from the rest).
Nothing temporary may be left, and what was finished when a process died must be there untouched at the end: the same
inode and time. The exit code is 1 where any of this does not hold.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

TIMES = {"seconds", "seconds_now", "started", "finished", "status"}  # of JSON, at any depth; status: made or reused
CARD_TIMES = re.compile(rb"; time: [^(]+|^- finished: .*$", re.MULTILINE)
REPORTS = {"report.html", "report.md", "workers.log"}
LOCKS = {".lock", ".locks", ".pid"}
OPERATIONS = ("fsync", "rename", "replace", "link", "unlink", "rmdir")
PATIENCE = 3600.0  # seconds in which a life must end by itself
TOPICS = [[f"{a}{b}{c}" for b in "aeiou" for c in "lmnrst"] for a in "bdk"]
COMMON = [f"{a}{b}" for a in "fgpt" for b in "aeiou"]

# -- the study ---------------------------------------------------------------------------------------------------------


def sentence(rng: np.random.Generator, topic: int, length: int) -> str:
    """Words, half of them of a topic."""
    return " ".join(str(rng.choice(TOPICS[topic] if rng.random() < 0.5 else COMMON)) for _ in range(length))


def write_study(folder: Path) -> Path:
    """A task, two that may be learned beside it, a corpus, and the study file."""
    rng = np.random.default_rng(0)
    for name, sizes in (("task", (60, 30, 30)), ("near", (40, 3, 3)), ("far", (40, 3, 3))):
        (folder / name).mkdir(parents=True)
        for split, many in zip(("train", "dev", "test"), sizes, strict=True):
            rows = [{"text": sentence(rng, i % 3, 12), "label": f"topic {i % 3}"} for i in range(many)]
            (folder / name / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = [sentence(rng, int(rng.integers(3)), int(rng.integers(10, 50))) for _ in range(150)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    short = {"batch_rows": 8, "max_length": 32, "patience": None}
    joint = {"preset": "tlm-joint", "updates": 8, "mix": {"documents": 3, "task": 1}, "batch_tokens": 256, **short}
    beside = {"preset": "multitask", "updates": 6, **short}
    tune = {"preset": "finetune", "updates": 6, **short}
    quick = {"seeds": 1, "epochs": 1, "trial_epochs": 1, "max_length": 32}
    study = {
        "name": "chaos",
        "seeds": 2,
        "task": {"path": str(folder / "task")},
        "auxiliary_tasks": [{"path": str(folder / name), "name": name} for name in ("near", "far")],
        "corpus": str(folder / "corpus.jsonl"),
        "encoder": {"scratch": "tiny", "vocabulary": 512},
        "arms": {
            "finetune": {"stages": [tune]},
            "all": {
                "documents": {"kind": "bm25", "per_query": 5, "max_tokens": 800},
                "masker": {"kind": "nmg", "episodes": 6, "contexts": 12, "rows": 12, "assess": 3, "max_length": 32},
                "auxiliary": {"kind": "gradts", **quick},
                "stages": [joint, beside, tune],
            },
        },
        "engine": {"workers": 2},
    }
    file = folder / "chaos.yaml"
    file.write_text(json.dumps(study))  # JSON is YAML
    return file


# -- a life: the study's processes, which may be killed ----------------------------------------------------------------


def life(study: str, operation: int) -> None:
    """What `trivium run` does, with a checkpoint after every update, so that there is more to be disturbed.

    Args:
        study: The study file; the run folder lies under ``runs`` here.
        operation: Before which operation on the disk, of any of its processes, all are killed; 0: none.
    """
    from trivium import engine
    from trivium.cli import app

    prepare(operation)
    whole = engine.run_all

    def run_all(function: str, items: list[Any], **how: Any) -> list[Any]:
        told = [{"function": function, "item": item, "operation": operation} for item in items]
        return whole("chaos:work", told, **how)

    engine.run_all = run_all  # type: ignore[assignment]
    print("ready", flush=True)
    app(["run", study, "--quiet"])


def work(item: dict[str, Any], send: Any) -> Any:
    """What a worker is asked for instead of the function itself, which it calls."""
    import importlib

    prepare(item["operation"])
    module, name = item["function"].split(":")
    return getattr(importlib.import_module(module), name)(item["item"], send)


def prepare(operation: int) -> None:
    """Be short, write checkpoints all the time, and die before an operation."""
    from trivium.auxiliary import jobs
    from trivium.documents import bm25
    from trivium.nmg import learn
    from trivium.training import StudyModels, loop, models

    loop.CHECKPOINT_SECONDS = learn._SAVE_SECONDS = bm25._SECONDS = 0.0
    jobs.StudyModels = models.StudyModels = partial(StudyModels, updates=20)  # type: ignore[misc, assignment]
    if not operation or hasattr(prepare, "counted"):
        return
    counted = prepare.counted = iter(range(1, operation + 1))  # type: ignore[attr-defined]

    def mortal(name: str) -> None:
        whole = getattr(os, name)

        def act(*args: Any, **more: Any) -> Any:
            if next(counted, operation) == operation:
                os.killpg(0, signal.SIGKILL)
            return whole(*args, **more)

        setattr(os, name, act)

    for name in OPERATIONS:
        mortal(name)


# -- from outside ------------------------------------------------------------------------------------------------------


@dataclass
class Place:
    """Where a study is run: its run folder, its cache, and the folder for what is temporary."""

    root: Path
    study: Path
    finished: dict[Path, tuple[int, int]] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        return self.root / "runs" / "chaos"

    def start(self, operation: int = 0) -> "subprocess.Popen[str]":
        """A life, in a process group of its own; it is on its way when this returns."""
        (self.root / "tmp").mkdir(parents=True, exist_ok=True)
        with (self.root / "stderr.log").open("a") as said:
            process = subprocess.Popen(
                [sys.executable, str(Path(__file__).resolve()), "--life", str(self.study), str(operation)],
                cwd=self.root,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                start_new_session=True,
                env={**os.environ, "TRIVIUM_CACHE": str(self.root / "cache"), "TMPDIR": str(self.root / "tmp")},
            )
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise SystemExit(f"a life could not begin: {(self.root / 'stderr.log').read_text()[-2000:]}")
        return process

    def artifacts(self) -> dict[Path, tuple[int, int]]:
        """What is finished: the inode and time of each file that says so, in run folder and cache."""
        found = [*self.run.glob("artifacts/*-*/done.json"), *self.root.glob("cache/*/*/done.json")]
        return {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in found if ".tmp-" not in str(file)}

    def redone(self) -> list[str]:
        """What was finished before and is not there, or not the same; and remember what is finished now."""
        now = self.artifacts()
        wrong = [str(file.relative_to(self.root)) for file, was in self.finished.items() if now.get(file) != was]
        self.finished = now
        return wrong

    def leftovers(self) -> list[Path]:
        """What is temporary: scratch files and folders, checkpoints, and what lies in the system's folder for it."""
        found = [path for part in ("runs", "cache") for path in (self.root / part).rglob("*")]
        return [
            *(p for p in found if p.name.startswith((".tmp-", ".partial-")) or p.suffix == ".tmp"),
            *(p for p in (self.root / "tmp").glob("*") if not p.name.startswith("torchinductor")),
        ]


def alive(group: int) -> bool:
    """Whether any process of a group still runs."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of = stat.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue
        if int(of) == group and state not in "ZX":
            return True
    return False


def kill(process: "subprocess.Popen[str]") -> None:
    """End a life and all of its processes, whether or not it killed itself."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    while alive(process.pid):
        time.sleep(0.01)


def content(folder: Path) -> dict[str, bytes]:
    """All files of a run folder, by name, without what says when or how long."""
    found = {}
    for file in sorted(folder.rglob("*")):
        name = str(file.relative_to(folder))
        if file.is_file() and not LOCKS & set(file.relative_to(folder).parts) and name not in REPORTS:
            found[name] = b"".join(_timeless(file))
    return found


def _timeless(file: Path) -> Iterator[bytes]:
    content = file.read_bytes()
    if file.suffix == ".json":
        value = _without(json.loads(content), TIMES)
        if file.name == "done.json":
            del value["self"]
            for about in ("files", "xxh3_128"):  # those of JSON files, which are compared here themselves
                value[about] = {name: x for name, x in value[about].items() if not name.endswith((".json", ".jsonl"))}
        yield json.dumps(value).encode()
    elif file.suffix == ".jsonl":
        yield from (json.dumps(_without(json.loads(line), TIMES)).encode() for line in content.splitlines())
    elif file.name == "README.md" and "models" in file.parts:
        yield CARD_TIMES.sub(b"", content)
    else:
        yield content


def _without(value: Any, keys: set[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(one, keys) for key, one in value.items() if key not in keys}
    return [_without(one, keys) for one in value] if isinstance(value, list) else value


def differing(one: Path, other: Path) -> list[str]:
    """Names of files that are not the same in two run folders."""
    ours, theirs = content(one), content(other)
    return sorted(name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name))


@dataclass
class Outcome:
    """What came of it: ``wrong`` says what is not as it should be; the rest tells what was disturbed."""

    kills: Counter[str] = field(default_factory=Counter)
    half: Counter[str] = field(default_factory=Counter)  # what lay half done when a process died
    runs: int = 0
    files: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


def torment(folder: Path, kills: int, seed: int, say: Any = print) -> Outcome:
    """Run the study undisturbed, then again and again disturbed, until so many kills are spent."""
    rng, outcome = np.random.default_rng(seed), Outcome()
    study = write_study(folder / "data")
    calm = Place(folder / "calm", study)
    begun = time.monotonic()
    _end(calm)
    span = time.monotonic() - begun
    outcome.wrong += [f"undisturbed: {path} is left" for path in calm.leftovers()]
    outcome.files = len(content(calm.run))
    say(f"undisturbed: {span:.0f} s, {outcome.files} files")
    spent = 0
    while spent < kills:
        place = Place(folder / f"disturbed-{outcome.runs}", study)
        outcome.runs += 1
        while spent < kills:
            aimed = spent % 2 == 1
            operation = int(rng.integers(1, 120)) if aimed else 0
            process = place.start(operation)
            deadline = time.monotonic() + (PATIENCE if aimed else rng.uniform(0, span))
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.005)
            if process.poll() == 0:
                break
            if process.poll() not in (None, -signal.SIGKILL):
                told = (place.root / "stderr.log").read_text()[-2000:]
                outcome.wrong.append(f"run {outcome.runs}, kill {spent + 1}: it failed by itself: {told}")
            kill(process)
            spent += 1
            outcome.kills["at an operation on the disk" if aimed else "at any moment"] += 1
            kinds = {path.name.removeprefix(".tmp-").removeprefix(".partial-") for path in place.leftovers()}
            outcome.half.update({kind.partition("-")[0] or "scratch" for kind in kinds})
            outcome.wrong += [f"kill {spent}: {name} was redone" for name in place.redone()]
            say(f"kill {spent}: {len(place.finished)} artifacts finished, half done: {', '.join(sorted(kinds)) or '-'}")
        _end(place)
        outcome.wrong += [f"run {outcome.runs}: {name} was redone" for name in place.redone()]
        outcome.wrong += [f"run {outcome.runs}: {path} is left" for path in place.leftovers()]
        outcome.wrong += [f"run {outcome.runs}: {name} differs" for name in differing(calm.run, place.run)]
    outcome.seconds = time.monotonic() - begun
    return outcome


def _end(place: Place) -> None:
    """Run the study to its end."""
    process = place.start()
    process.communicate(timeout=PATIENCE)
    if process.returncode:
        raise SystemExit(f"the study failed: {(place.root / 'stderr.log').read_text()[-2000:]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where to run, and to leave what was made")
    parser.add_argument("--life", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.life:
        study, operation = options.life
        return life(study, int(operation))
    with tempfile.TemporaryDirectory() as scratch:
        outcome = torment((options.folder or Path(scratch)).absolute(), options.kills, options.seed)
    print(f"\n{sum(outcome.kills.values())} kills in {outcome.seconds / 60:.1f} minutes, seed {options.seed}")
    for how, many in sorted(outcome.kills.items()):
        print(f"  {how:<30} {many:>4}")
    print("half done when killed, in how many kills")
    for kind, many in outcome.half.most_common():
        print(f"  {kind:<30} {many:>4}")
    print(
        f"  {'runs brought to their end':<30} {outcome.runs:>4}\n"
        f"each was compared with the undisturbed one in {outcome.files} files:"
    )
    print("\n".join(outcome.wrong) or "nothing differs, nothing was redone, nothing temporary is left")
    sys.exit(bool(outcome.wrong))


if __name__ == "__main__":
    main()
