"""The first updates of an arm, in as many workers as the study will have: what no step alone can tell.

How long a worker takes to begin, a stage to be loaded and saved, how much slower steps are while other workers make
theirs, how much memory a worker takes, and how large a trained stage is on disk. It is the code of the study that is
run (``job.train_arm``), in a folder that is thrown away.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trivium import engine
from trivium.config import build, choose
from trivium.core import JSON, Stage, Task
from trivium.data.saved import load_saved_task, save_task
from trivium.errors import TriviumError
from trivium.nmg import MASKERS
from trivium.store import Store, room
from trivium.study.arms import Arm, settled, spelled_encoder, spelled_masker, spelled_stage
from trivium.study.bands import Band
from trivium.study.job import train_arm
from trivium.study.reading import load_documents, load_reading_tokenizer, save_reading
from trivium.study.timing import Timing, stand_in, step_seconds, torch_threads
from trivium.training import new_encoder, torch_device
from trivium.training.loop import StageRun
from trivium.training.recipes import make_spec

_UPDATES = 2
_AGAIN = 1000  # seeds between the first time an arm is trained and the second
_ROOM = 1.3  # how many times more or less memory batches of other lengths may take


@dataclass(frozen=True)
class Rehearsal:
    """What was found.

    Attributes:
        begin: Seconds until all workers have begun; none where the study trains in its own process.
        stage: Seconds of a stage beside its updates: to make or load its encoder, read its rows, and save.
        crowding: How many times as long a step takes while all workers make theirs.
        memory: Of one worker, in bytes.
        disk: Of one trained stage, in bytes.
    """

    begin: Band
    stage: Band
    crowding: Band
    memory: Band
    disk: float


def rehearsed(arm: Arm, timing: Timing, workers: int) -> Rehearsal:
    """Let as many workers as there will be train an arm for a moment, side by side.

    Args:
        arm: The arm, its stages' lengths written in updates.
        timing: What steps take alone, on as many threads as a worker has.
        workers: How many.
    """
    stages = [_short(settled(stage, timing.candidates)) for stage in arm.recipe.stages]
    with tempfile.TemporaryDirectory() as scratch:
        item = _item(arm, timing, stages, Path(scratch))
        items = [{**item, "root": f"{scratch}/{n}", "seed": n} for n in range(workers)]
        begun = time.monotonic()
        with torch_threads(timing.threads):
            answers = engine.run_all("trivium.study.rehearsal:rehearse", items, workers=workers)
        whole = time.monotonic() - begun
        sizes = [room(folder) for folder in Path(scratch, "0").glob("*/stage-*")]
    found: list[JSON] = []
    for answer in answers:
        if isinstance(answer, TriviumError):
            raise answer
        found.append(answer)
    alone = timing.steps(stages[-1], arm.recipe.masker).seconds[timing.task.name].value
    steps = np.array([step for one in found for step in one["steps"]])
    beside = Band.of([one["beside"] / len(stages) for one in found]).off()
    loading = max(one["loading"] for one in found)
    begin = Band.exactly(loading + max(0.0, whole - max(one["seconds"] for one in found))).off() * float(workers > 1)
    crowding = Band.of((steps / alone).tolist()) if workers > 1 else Band.exactly(1.0)
    memory = Band.exactly(max(one["memory"] for one in found)).off(_ROOM)
    return Rehearsal(begin, beside, crowding, memory, float(np.mean(sizes)))


def rehearse(item: JSON, send: engine.Send) -> JSON:
    """Train an arm for a moment, and then time steps of its last stage. Runs in a worker.

    Args:
        item: As ``train_arm`` takes it, with stages of few updates.
        send: Told what ``train_arm`` tells.

    Returns:
        ``seconds`` of it all; ``loading``, those that only the first arm of a process takes; ``beside``, those of
        training an arm that are not its updates; ``steps``, seconds of each step of the last stage with a batch of the
        task; and ``memory``, the most that this process took so far, in bytes.
    """
    begun = time.monotonic()
    first, beside = (_beside(item, seed, send) for seed in (item["seed"], item["seed"] + _AGAIN))
    stage, reading = build(Stage, item["stages"][-1], "stages"), Path(item["reading"])
    task = load_saved_task(Path(item["task"]))
    encoder = new_encoder(make_spec(item["encoder"]), load_reading_tokenizer(reading), stage.max_length, seed=0)
    encoder = encoder.cuda() if torch_device() == "cuda" else encoder
    others = [load_saved_task(Path(folder)) for folder in item["auxiliary"]["tasks"]] if item["auxiliary"] else []
    masker = choose(MASKERS, item["masker"], "masker")
    run = StageRun(encoder, stage, task, load_documents(reading, stage.max_length), masker, 0, others)
    encoder.train()
    steps = step_seconds(run, task.name)
    whole = time.monotonic() - begun
    loading = max(0.0, first - beside)
    return {"seconds": whole, "loading": loading, "beside": beside, "steps": steps, "memory": peak_memory()}


def _beside(item: JSON, seed: int, send: engine.Send) -> float:
    """Seconds of training an arm that are not those of its updates and looks."""
    begun = time.monotonic()
    made = train_arm({**item, "seed": seed}, send)
    traces = [json.loads((Path(stage["folder"]) / "trace.json").read_text()) for stage in made]
    return time.monotonic() - begun - sum(float(trace["seconds"]) for trace in traces)


def peak_memory() -> int:
    """The most memory that this process had so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _short(stage: Stage) -> Stage:
    return replace(stage, updates=_UPDATES, epochs=None)


def _item(arm: Arm, timing: Timing, stages: Sequence[Stage], folder: Path) -> JSON:
    """What a worker is told, and what it reads: the task, the documents and the tasks beside."""
    store, texts = Store(folder / "inputs"), timing.texts if arm.recipe.reads() else []
    learned = timing.candidates if any("auxiliary" in stage.mix for stage in stages) else ()

    def saved(task: Task) -> str:
        return str(store.make("task", task.fingerprint, lambda place: save_task(task, place)).folder)

    reading = store.make(
        "reading", arm.name, lambda place: save_reading(timing.spec, timing.task, texts, stages, place, learned)
    )
    return {
        "task": saved(timing.task),
        "reading": str(reading.folder),
        "encoder": spelled_encoder(timing.spec),
        "origin": None,
        "head": None,
        "masker": spelled_masker(stand_in(arm.recipe.masker)),
        "fitted": None,
        "auxiliary": {"key": "rehearsal", "tasks": [saved(task) for task in learned]} if learned else None,
        "stages": [spelled_stage(stage) for stage in stages],
    }
