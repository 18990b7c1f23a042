"""The trainings that a choice rests on, each an artifact: done once, in any process, and gone on with after a kill."""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from trivium import engine, seeds
from trivium.auxiliary.importance import measure
from trivium.config import build
from trivium.core import JSON, Stage, Task
from trivium.data.saved import load_saved_task
from trivium.encoders import Encoder
from trivium.encoders.encoder import load_tokenizer, torch_device
from trivium.engine import Receive, Send
from trivium.errors import TriviumError
from trivium.kinds import kind_of
from trivium.masking import RandomTokens
from trivium.store import Artifact, Store
from trivium.training import checkpoint
from trivium.training.evaluation import answers, score
from trivium.training.loop import Trace, run_stage
from trivium.training.models import StudyModels, new_encoder
from trivium.training.recipes import make_spec

LANGUAGE, IMPORTANCE, JOINT, TRIAL = TRAININGS = ("language", "importance", "joint", "trial")


def run_jobs(items: Sequence[JSON], workers: int, receive: Receive = lambda _item, _message: None) -> list[Artifact]:
    """Do what is not done yet, side by side: on the cluster that ``engine.using`` named, or in processes here.

    Args:
        items: See ``run_job``.
        workers: How many processes here.
        receive: Told the index of an item and ``{"done", "total"}``.

    Returns:
        The artifact of each, in order.

    Raises:
        TriviumError: one of them failed.
    """
    cluster = engine.ray()
    if cluster is not None:
        found = list(cluster.map(_there, None, [(item,) for item in items]))
    else:
        found = engine.run_all("trivium.auxiliary.jobs:run_job", items, workers=workers, receive=receive)
    for one in found:
        if isinstance(one, TriviumError):
            raise one
    return [Artifact(**{**one, "folder": Path(one["folder"])}) for one in found]


def _there(_common: None, item: JSON) -> JSON:
    return run_job(item, lambda message: None)


def run_job(item: JSON, send: Send) -> JSON:
    """Do a job, or find it done.

    Args:
        item: ``what`` (see the constants above), ``root`` (of the store), ``inputs`` (all that the result depends on),
            ``start`` (see ``start``), ``seed``, ``stage`` and ``tasks`` (folders; the first is what it is about).
        send: Told ``{"done", "total"}`` now and then.

    Returns:
        The artifact, as JSON.
    """
    store, what = Store(Path(item["root"])), item["what"]
    resume = store.partial(what, item["inputs"])
    work = {LANGUAGE: _language, IMPORTANCE: _importance, JOINT: _joint, TRIAL: _trial}[what]
    made = store.make(what, item["inputs"], lambda folder: work(item, folder, resume, send))
    shutil.rmtree(resume, ignore_errors=True)
    return {**asdict(made), "folder": str(made.folder)}


def start(about: JSON, seed: int) -> Encoder:
    """Where trainings start: a pretrained encoder, or one from scratch that filled gaps.

    Args:
        about: ``encoder`` (as the study file spells it), ``tokenizer`` (folder), ``max_length``, and for one from
            scratch ``languages``: the folder of an encoder that filled gaps, by seed.
        seed: Which.
    """
    languages = about.get("languages")
    if languages:
        encoder = Encoder.load(Path(languages[str(seed)]))
    else:
        spec, tokenizer = make_spec(about["encoder"]), load_tokenizer(about["tokenizer"])
        encoder = new_encoder(spec, tokenizer, about["max_length"], seed)
    return encoder.cuda() if torch_device() == "cuda" else encoder


def _language(item: JSON, folder: Path, resume: Path, send: Send) -> None:
    """An encoder from scratch fills random gaps in the texts of all tasks."""
    about, texts = item["start"], [text for task in _tasks(item) for text in task.texts("train")]
    models = StudyModels(
        make_spec(about["encoder"]),
        load_tokenizer(about["tokenizer"]),
        _tasks(item)[0],
        texts,
        item["seed"],
        max_length=about["max_length"],
    )
    models.language().save(folder)


def _importance(item: JSON, folder: Path, resume: Path, send: Send) -> None:
    """A task is learned alone; then how much each head matters to each of its rows is measured."""
    task = _tasks(item)[0]
    learned = checkpoint.newest(resume / "learned")
    if learned is None:
        encoder, trace = _learn(item, resume / "training", send)
        checkpoint.write(resume / "learned", trace.updates, lambda scratch, _before: encoder.save(scratch))
        learned = checkpoint.newest(resume / "learned")
        assert learned is not None
    encoder = Encoder.load(learned)
    if torch_device() == "cuda":
        encoder = encoder.cuda()
    looked_at = load_saved_task(Path(item["looked_at"]))
    measure(encoder, looked_at, estimator=item["estimator"], folder=resume / "importance", watch=_teller(send))
    (resume / "importance").rename(folder / "importance")
    (folder / "importance.json").write_text(json.dumps({"task": task.name, "rows": len(looked_at.rows("train"))}))


def _joint(item: JSON, folder: Path, resume: Path, send: Send) -> None:
    """All tasks are learned beside each other."""
    encoder, _ = _learn(item, resume, send)
    encoder.save(folder)


def _trial(item: JSON, folder: Path, resume: Path, send: Send) -> None:
    """The task is learned beside others, and judged by the rows that were kept back."""
    begun = time.monotonic()
    encoder, trace = _learn(item, resume, send)
    task = _tasks(item)[0]
    kind, rows = kind_of(task), task.rows("dev")
    encoded = kind.encode(encoder.tokenizer, rows, task.labels, encoder.cut_of(task.name))
    said, sure, losses = answers(encoder, task, encoded, rows)
    judged = score(task, "dev", said, sure)
    counts = kind.counts(judged.gold, judged.predicted, task.labels)
    np.savez(folder / "rows.npz", counts=counts, losses=losses)
    about = {
        "value": judged.value,
        "loss": float(np.mean(losses)),
        "updates": trace.updates,
        "tokens": trace.tokens,
        "seconds": time.monotonic() - begun,
    }
    (folder / "trial.json").write_text(json.dumps(about))


def _learn(item: JSON, resume: Path, send: Send) -> tuple[Encoder, Trace]:
    """Learn the first task beside the others, from its training rows; its dev rows steer nothing."""
    stage: Stage = build(Stage, item["stage"], "stage")
    task, *others = [replace(task, tables={"train": task.rows("train")}) for task in _tasks(item)]
    encoder = start(item["start"], item["seed"])
    trace = run_stage(
        encoder,
        stage,
        task,
        auxiliary=others,
        masker=RandomTokens(),
        seed=seeds.child(item["seed"], "auxiliary"),
        resume=resume,
        watch=_teller(send),
    )
    return encoder, trace


def _teller(send: Send) -> Callable[[int, int], None]:
    """Tells how far a training or a measurement is, twenty times at most."""
    return lambda done, total: send({"done": done, "total": total}) if done % max(1, total // 20) == 0 else None


def _tasks(item: JSON) -> list[Task]:
    return [load_saved_task(Path(folder)) for folder in item["tasks"]]
