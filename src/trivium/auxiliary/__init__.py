"""What to learn beside: auxiliary tasks, and rows of them, chosen by gradients (GradTS, Ma et al. 2021).

Read ``protocol.py`` for what a way to choose may ask and says, ``heads.py`` and ``importance.py`` for how much each
attention head matters, ``affinity.py`` for how alike tasks are by that, ``choosers.py`` for how ratings become a
choice, and ``bank.py`` for the trainings behind it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trivium import engine
from trivium.auxiliary.autosem import AutoSem
from trivium.auxiliary.bank import Ground
from trivium.auxiliary.choose import choose_auxiliary
from trivium.auxiliary.controls import AllTasks, LargestTasks, NoTasks, Pairwise, RandomTasks
from trivium.auxiliary.gradcos import GradCos
from trivium.auxiliary.gradtag import GradTag
from trivium.auxiliary.gradts import GradTS, GradTSRows, GradTSThreshold
from trivium.auxiliary.importance import Estimator, Importance, measure
from trivium.auxiliary.projected import Projected
from trivium.auxiliary.protocol import AuxiliarySelector, Choice, Rating, Trial
from trivium.auxiliary.tag import Tag
from trivium.auxiliary.textemb import TextEmb
from trivium.core import Task
from trivium.encoders import Encoder, Pretrained, Scratch
from trivium.encoders.encoder import origin
from trivium.store import Store, cache_folder
from trivium.training import torch_device, train
from trivium.training.recipes import finetune, spec_of
from trivium.training.software import software

__all__ = [
    "SELECTORS",
    "AllTasks",
    "AutoSem",
    "AuxiliarySelector",
    "Choice",
    "GradCos",
    "GradTS",
    "GradTSRows",
    "GradTSThreshold",
    "GradTag",
    "Importance",
    "LargestTasks",
    "NoTasks",
    "Pairwise",
    "Projected",
    "RandomTasks",
    "Rating",
    "Tag",
    "TextEmb",
    "Trial",
    "choose_auxiliary",
    "head_importance",
    "select_auxiliary",
]

SELECTORS: Mapping[str, type[Any]] = {
    "gradts-trial": GradTS,
    "gradts": GradTS,
    "gradts-threshold": GradTSThreshold,
    "gradts-fg": GradTSRows,
    "all": AllTasks,
    "none": NoTasks,
    "random": RandomTasks,
    "size": LargestTasks,
    "pairwise": Pairwise,
    "textemb": TextEmb,
    "gradcos": GradCos,
    "tag": Tag,
    "autosem": AutoSem,
    "gradtag": GradTag,
    "projected": Projected,
}


def head_importance(
    encoder: Encoder | Scratch | Pretrained | str,
    task: Task,
    *,
    estimator: Estimator = "gate",
    epochs: float = 3,
    max_length: int = 128,
    folder: Path | str | None = None,
    seed: int = 0,
) -> Importance:
    """How much each attention head matters to a task, and to each of its training rows.

    Args:
        encoder: One that has learned the task; or what to start from, as in ``train``: it then learns the task alone.
        task: The task; only its training rows are looked at.
        estimator: See ``GradTS``.
        epochs: Passes over the task, where it is to be learned first.
        max_length: Longest input in tokens while it is.
        folder: Where to write what is measured, shard by shard, and to go on from; none keeps it in memory.
        seed: Of the training.

    Returns:
        ``.task``, float64 ``[layers, heads]``, and ``.instances``, float32 ``[rows, layers, heads]``.

    Raises:
        ConfigError: it is not known where the heads of such an encoder are.
    """
    if not isinstance(encoder, Encoder):
        spec = spec_of(encoder)
        alone = finetune(spec, epochs=epochs, max_length=max_length, patience=None, keep_best=False)
        encoder = train(replace(task, tables={"train": task.rows("train")}), alone, seed=seed)
    return measure(encoder, task, estimator=estimator, folder=None if folder is None else Path(folder))


def select_auxiliary(
    task: Task,
    candidates: Sequence[Task],
    selector: AuxiliarySelector | None = None,
    *,
    encoder: Scratch | Pretrained | str | None = None,
    folder: Path | str | None = None,
    workers: int | None = None,
    seed: int = 0,
    watch: Callable[[str, int, int], None] | None = None,
) -> Choice:
    """Choose what to learn beside a task.

    What is trained and measured on the way is kept: asked again, with another selector or more candidates, nothing is
    done twice, and what was interrupted goes on.

    Args:
        task: The task. Trials are judged by some of its training rows; of its dev and test splits only the texts are
            looked at, so that no candidate gives one away.
        candidates: Tasks that could be learned beside it, of any kind; only their training rows are looked at.
        selector: How; ``GradTS()`` if not given.
        encoder: What trainings start from, as in ``train``.
        folder: Where to keep what was found; the cache folder if not given.
        workers: Trainings side by side; one for every core up to four, or one on a GPU, if not given.
        seed: Of everything random.
        watch: Told what is being done, how much of it is done and how much there is.

    Returns:
        A sequence of tasks, for ``train(…, auxiliary=…)``, with all ratings, trials and what they cost.

    Raises:
        ConfigError: there are no candidates, or the selector's keys do not suit them.
        DataError: the task has too few training texts.
    """
    spec = spec_of(encoder)
    store = Store(cache_folder() / "auxiliary" if folder is None else Path(folder))
    many = workers or (1 if torch_device() == "cuda" else min(4, engine.cores()))
    ground = Ground(spec, {**origin(spec), **software()}, store, workers=many, watch=watch or _unwatched)
    return choose_auxiliary(task, candidates, selector or GradTS(), ground, seed=seed)


def _unwatched(what: str, done: int, total: int) -> None:
    """Nobody asked."""
