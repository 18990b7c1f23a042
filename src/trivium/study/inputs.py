"""What a study begins with: its task, its corpus, and how many workers there are."""

from collections.abc import Mapping
from dataclasses import replace

from trivium.config import StudyConfig, TaskConfig
from trivium.core import Corpus, Task
from trivium.data import load_corpus, load_task
from trivium.encoders import Pretrained
from trivium.engine import cores
from trivium.errors import ConfigError
from trivium.kinds import kind_of
from trivium.study.arms import Arm
from trivium.study.progress import Reporter
from trivium.training import compares, masks, torch_device


def load_inputs(config: StudyConfig, arms: Mapping[str, Arm], reporter: Reporter) -> tuple[Task, Corpus | None]:
    """The task with all its splits, and the corpus if anything needs it.

    An arm may read it or compare what it hides with it, and a gap-filling head may be warmed up on it.

    Raises:
        DataError: a file is not what it should be.
        ConfigError: the task cannot be judged by its metric, or a stage weighs labels that it does not have.
    """
    task = _load(config.task)
    kind = kind_of(task)
    for name, arm in arms.items():
        for stage in arm.recipe.stages:
            try:
                kind.weights(task.rows("train"), task.labels, stage.class_weight)
            except ConfigError as error:
                raise ConfigError(f"arms.{name}, stage '{stage.name}', {error}") from None
    corpus = config.corpus_config
    recipes = [arm.recipe for arm in arms.values()]
    if corpus is None or not any(
        recipe.reads() or compares(recipe.masker) or (isinstance(recipe.encoder, Pretrained) and masks(recipe.stages))
        for recipe in recipes
    ):
        return task, None
    with reporter.phase("reading the corpus") as bar:
        return task, load_corpus(corpus.path, columns=corpus.columns, window=corpus.window, progress=bar)


def load_candidates(config: StudyConfig, arms: Mapping[str, Arm]) -> tuple[Task, ...]:
    """The tasks that may be learned beside the study's own, with their training rows, if any arm does.

    Raises:
        DataError: a file is not what it should be.
    """
    if all(arm.auxiliary is None for arm in arms.values()):
        return ()
    loaded = [_load(options, carve=False) for options in config.auxiliary_tasks]
    return tuple(replace(task, tables={"train": task.rows("train")}) for task in loaded)


def _load(options: TaskConfig, *, carve: bool = True) -> Task:
    return load_task(
        options.path,
        preset=options.preset,
        kind=options.kind,
        metric=options.metric,
        name=options.name,
        columns=options.columns,
        labels=options.labels,
        rows=options.rows,
        carve=carve,
    )


def worker_count(config: StudyConfig) -> int:
    """As many as asked for; else one on a GPU, and on a CPU one for every core up to four.

    Small encoders leave cores idle when several serve one (docs/design-notes.md).
    """
    if config.engine.workers is not None:
        return config.engine.workers
    return 1 if torch_device() == "cuda" else min(4, cores())
