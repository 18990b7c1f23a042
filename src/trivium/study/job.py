"""One arm with one seed: its stages in order, each an artifact. Runs in a worker, which is given no test rows."""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from trivium.config import build, choose
from trivium.core import JSON, Stage, Task
from trivium.data.saved import load_saved_task
from trivium.engine import Send
from trivium.masking import Masker, ScoredMasker
from trivium.nmg import MASKERS
from trivium.store import Artifact, Store
from trivium.study.reading import load_documents, load_reading_tokenizer
from trivium.training import Encoder, new_encoder, run_stage, torch_device
from trivium.training.recipes import Spec, make_spec
from trivium.training.spending import flops_per_token

_EVERY = 0.5  # seconds between two messages about progress
_COUNTED = ("updates", "tokens", "padded", "maskable", "hidden", "seconds")


def in_turn(arms: Sequence[str], seeds: Sequence[int], workers: int) -> list[tuple[str, int]]:
    """The order in which arms are trained with seeds: whole seeds first, as many at a time as there are workers.

    So what is trained side by side is an arm with several seeds. Arms with the same seed may begin with the same stage,
    and one of them would wait for the other.

    >>> in_turn(["a", "b"], [0, 1, 2], workers=2)
    [('a', 0), ('a', 1), ('b', 0), ('b', 1), ('a', 2), ('b', 2)]
    """
    blocks = [seeds[i : i + workers] for i in range(0, len(seeds), workers)]
    return [(arm, seed) for block in blocks for arm in arms for seed in block]


def train_arm(item: JSON, send: Send) -> JSON:
    """Train one arm with one seed, or find it trained.

    Args:
        item: ``root`` (run folder), ``task`` and ``reading`` (artifact folders), ``encoder``, ``masker``, ``stages``
            (as the study file spells them), ``fitted`` (artifact folder of a masker that learned first, or none),
            ``head`` (folder of a warm head, or none), ``auxiliary`` (folders of tasks to learn beside, and the name of
            their choice; or none), ``origin`` (what else weights depend on) and ``seed``.
        send: Told ``{"stage": i, "done": updates, "total": updates}`` now and then.

    Returns:
        The artifact of every stage, in order, in JSON.
    """
    store, spec = Store(Path(item["root"])), make_spec(item["encoder"])
    stages = [build(Stage, options, "stages") for options in item["stages"]]
    parent: Artifact | None = None
    made = []
    for i, stage in enumerate(stages):
        inputs = {
            "origin": item["origin"],
            "parent": parent.key if parent else None,
            "task": Path(item["task"]).name,
            "reading": Path(item["reading"]).name,
            "masker": Path(item["fitted"]).name if item["fitted"] else item["masker"],
            "stage": _decisive(item["stages"][i]),
            "seed": item["seed"],
            "max_length": max(s.max_length for s in stages),
            **({"auxiliary": item["auxiliary"]["key"]} if "auxiliary" in stage.mix else {}),
        }
        resume = store.partial("stage", inputs)
        write = _stage_writer(item, spec, stage, inputs["max_length"], parent, resume, _teller(send, i))
        parent = store.make("stage", inputs, write)
        shutil.rmtree(resume, ignore_errors=True)
        send({"stage": i, "done": 1, "total": 1, "finished": True})
        made.append({**asdict(parent), "folder": str(parent.folder)})
    return made


def _decisive(options: JSON) -> JSON:
    """The keys of a stage by which its artifact is named: one that compares no gradients is named as it ever was."""
    return {key: value for key, value in options.items() if key != "gradients_every" or value is not None}


def _stage_writer(
    item: JSON,
    spec: Spec,
    stage: Stage,
    longest: int,
    parent: Artifact | None,
    resume: Path,
    watch: Callable[[int, int], None],
) -> Callable[[Path], None]:
    """What fills the folder of a stage's artifact."""

    def write(folder: Path) -> None:
        reading = Path(item["reading"])
        if parent is None:
            head = Path(item["head"]) if item["head"] else None
            encoder = new_encoder(spec, load_reading_tokenizer(reading), longest, item["seed"], head)
        else:
            encoder = Encoder.load(parent.folder)
        if torch_device() == "cuda":
            encoder = encoder.cuda()
        trace = run_stage(
            encoder,
            stage,
            load_saved_task(Path(item["task"])),
            documents=load_documents(reading, stage.max_length),
            auxiliary=_beside(item) if "auxiliary" in stage.mix else (),
            masker=_masker(item),
            seed=item["seed"],
            resume=resume,
            watch=watch,
        )
        encoder.save(folder)
        about = {name: getattr(trace, name) for name in _COUNTED}
        about["flops"] = flops_per_token(encoder, stage.freeze) * trace.padded
        (folder / "trace.json").write_text(json.dumps({**about, "stage": stage.name, "events": trace.events}))

    return write


def _beside(item: JSON) -> list[Task]:
    return [load_saved_task(Path(folder)) for folder in item["auxiliary"]["tasks"]]


def _masker(item: JSON) -> Masker:
    """The arm's masker, as it is or as it was fitted; its own module, if it has one, is imported either way."""
    masker: Masker = choose(MASKERS, item["masker"], "masker")
    return ScoredMasker.from_pretrained(item["fitted"]) if item["fitted"] else masker


def _teller(send: Send, stage: int) -> Callable[[int, int], None]:
    told = 0.0

    def watch(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told > _EVERY or done == total:
            told = time.monotonic()
            send({"stage": stage, "done": done, "total": total})

    return watch
