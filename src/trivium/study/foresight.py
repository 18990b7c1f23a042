"""What the choices before training would take, and the judging after it: each tried on a small part, and drawn out.

One function for each kind of choice. What is tried is the choice itself, on some of the documents, rows or texts;
trainings that it asks for are counted and not made, and steps of theirs are timed (``Timing``). What nobody can know,
such as how many trials patience allows, is a band from least to most.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from trivium import seeds
from trivium.core import Corpus, Ints, Queries, Stage, Task
from trivium.documents import Budget, RandomDocuments, select_documents
from trivium.documents.screens import Screens
from trivium.errors import TriviumError
from trivium.kinds import kind_of
from trivium.store import caching_in, room
from trivium.study.arms import Arm
from trivium.study.bands import Band, growing, timed
from trivium.study.linear import LINEAR_MODELS
from trivium.study.reading import save_reading
from trivium.study.statistics import bootstrap
from trivium.study.timing import Timing, torch_threads
from trivium.training import Warmup, new_encoder, torch_device, warm_up

_FEW = 32  # rows that are asked for documents while the number of documents grows
_ROWS = 2000  # rows that a linear model is timed on, at most
_REPORT = Band(4.0, 1.0, 15.0)  # seconds for figures, pages and files: an allowance, since it is not tried


@dataclass(frozen=True)
class Scene:
    """What choices are tried with.

    Attributes:
        timing: Steps of trainings, a sample of the documents, the sealed task.
        corpus: The documents, if the study reads any.
        task: The task with its held-out splits, whose texts alone the screens look at.
        screens: What is left out.
        threads: Of the process that chooses.
    """

    timing: Timing
    corpus: Corpus | None
    task: Task
    screens: Screens
    threads: int


def documents(scene: Scene, arm: Arm) -> Band:
    """Choosing an arm's documents: the corpus indexed, every row asked, and what is taken screened.

    The selector ranks a part of the corpus for a part of the rows. Queries are taken to grow with the documents. Where
    the whole corpus was indexed before, that part falls away: the lower end is without it.
    """
    assert scene.corpus is not None
    corpus, selector, queries = scene.corpus, arm.selector, Queries.of(scene.timing.task)

    def rank(many: int, rows: int) -> float:
        part = _part(corpus, many)
        some = Queries(queries.task, queries.texts[:rows])
        with _elsewhere():
            return timed(lambda: tolerant(lambda: selector.rank(part, some, seeds.numpy_rng(0, "plan"))))

    few = min(_FEW, len(queries.texts))
    by_documents = growing(lambda many: rank(many, few), len(corpus), start=256)
    reached = by_documents.reached
    by_rows = growing(lambda rows: rank(reached, rows), len(queries.texts), start=few)
    index = max(0.0, by_documents.slope - by_rows.slope * few / reached)
    whole = replace(by_documents, slope=index).at(len(corpus))
    asking = replace(by_rows, fixed=0.0).at(len(queries.texts)) * (len(corpus) / reached)
    taking = growing(partial(_take, scene), int(taken(scene, arm).value), start=256)
    found = whole + asking.off(1.0 if reached == len(corpus) else 1.5) + taking.at(taken(scene, arm).value)
    return replace(found, low=min(found.low, asking.low))


def taken(scene: Scene, arm: Arm) -> Band:
    """About how many documents an arm reads: as many as its budget allows and its selector can find."""
    assert scene.corpus is not None
    corpus, budget = scene.corpus, Budget.of(arm.selector)
    words = max(1.0, float(corpus.words.mean(dtype=np.float64)))
    letters = max(1.0, float(np.mean([len(text.encode()) for text in scene.timing.texts])))
    rows, each = len(scene.timing.task.rows("train")), getattr(arm.selector, "per_query", None)
    most = [
        float(len(corpus)),
        *([] if budget.max_documents is None else [float(budget.max_documents)]),
        *([] if budget.max_tokens is None else [budget.max_tokens / words]),
        *([] if budget.max_bytes is None else [budget.max_bytes / letters]),
        *([] if each is None else [float(rows * each)]),
    ]
    return Band(max(1.0, min(most)), max(1.0, min(most) / 3), max(1.0, min(most)))


def _take(scene: Scene, many: int) -> float:
    """Seconds of screening and taking so many documents."""
    assert scene.corpus is not None
    some = RandomDocuments(max_documents=many)
    with _elsewhere():
        return timed(
            lambda: tolerant(
                lambda: select_documents(scene.corpus, scene.task, some, seed=0, screens=scene.screens)  # type: ignore[arg-type]
            )
        )


def reading(scene: Scene, arm: Arm) -> tuple[Band, Band]:
    """Making an arm's tokenizer and its tokens: seconds, and bytes on disk."""
    timing, stages = scene.timing, arm.recipe.stages
    beside = timing.candidates if arm.auxiliary is not None else ()
    sizes: dict[int, int] = {}

    def lay(many: int) -> float:
        with tempfile.TemporaryDirectory() as scratch:
            texts = timing.texts[:many] if arm.recipe.reads() else []
            seconds = timed(lambda: save_reading(timing.spec, timing.task, texts, stages, Path(scratch), beside))
            sizes[many] = room(Path(scratch))
        return seconds

    if not arm.recipe.reads():
        return Band.exactly(lay(0)).off(), Band.exactly(float(sizes[0])).off()
    many = taken(scene, arm)
    line = growing(lay, min(len(timing.texts), int(many.value)), start=128)
    most = max(sizes)
    seconds = Band(line.at(many.value).value, line.at(many.low).low, line.at(many.high).high)
    return seconds, many * (sizes[most] / most)


def head(scene: Scene) -> Band:
    """Warming up a head for gaps, where a pretrained encoder came without; nothing where it was warm before."""
    timing, updates = scene.timing, Warmup().updates

    def warm(many: int) -> float:
        encoder = new_encoder(timing.spec, timing.tokenizer, 128, seed=0)
        encoder = encoder.cuda() if torch_device() == "cuda" else encoder
        texts = [*timing.task.texts("train"), *timing.texts]
        with _elsewhere(), torch_threads(scene.threads):
            return timed(lambda: warm_up(encoder, texts, replace(Warmup(), updates=many)))

    found = growing(warm, updates, start=8).at(updates)
    return replace(found, low=0.0)


def judging(scene: Scene, stages: Sequence[Stage], load: Band) -> Band:
    """Judging one model on dev and on test, from the time of a look at dev.

    Args:
        scene: What choices are tried with.
        stages: Of the arm; the last one's look is taken.
        load: Of a stage, what is not training: a model is loaded for each split.
    """
    task, timing = scene.task, scene.timing
    dev, test = (len(task.tables.get(split, ())) for split in ("dev", "test"))
    look = timing.steps(stages[-1]).look * ((dev + test) / max(1, dev))
    return Band.sum([replace(look, low=look.low / max(1, scene.threads)), replace(load, low=load.low / 2) * 2.0])


def linear(scene: Scene) -> Band:
    """Fitting the linear model with each of its settings: some rows are tried, with the first and the last of them."""
    task = scene.task.sealed()
    family, rows = LINEAR_MODELS[task.kind], len(task.rows("train"))
    many = min(rows, _ROWS)
    part = replace(task, tables={**task.tables, **some_rows(task, many).tables})

    def fit(settings: Any) -> float:
        return timed(lambda: tolerant(lambda: family.fit(part, settings)(part, "dev")))

    tried = family.tried(task)
    fit(tried[0])  # loads what it needs
    each = [fit(settings) for settings in (tried[0], tried[-1])]
    found = Band(sum(each) / 2, min(each), max(each)).off() * float(len(tried))
    return replace(found * (rows / many), high=found.high * (rows / many) ** 1.3)


def comparison(task: Task, many: int) -> float:
    """Seconds of comparing two arms with so many seeds, tried with made-up outcomes."""
    rows, kind = task.rows("test" if "test" in task.tables else "dev"), kind_of(task)
    gold, rng = kind.gold(rows, task.labels), seeds.numpy_rng(0, "plan", "verdict")
    right = kind.counts(gold, gold, task.labels)
    one, other = (np.stack([right * rng.integers(0, 2, (len(right), 1)) for _ in range(many)]) for _ in "ab")
    return timed(lambda: tolerant(lambda: bootstrap(one, other, kind.metrics[task.metric], rng)))


def verdict(each: float, questions: int) -> Band:
    """Comparing arms, and the report, for which there is an allowance.

    Args:
        each: Seconds of a comparison.
        questions: How many.
    """
    return Band.exactly(each * questions).off(1.5) + _REPORT


@contextmanager
def _elsewhere() -> Iterator[None]:
    """What is kept of a corpus goes where nobody finds it: the next call does it all again."""
    with tempfile.TemporaryDirectory() as scratch, caching_in(Path(scratch)):
        yield


def tolerant(call: Callable[[], object]) -> None:
    """What fails on a small part (no word in common, every label the same) takes about as long as what does not."""
    with suppress(TriviumError):
        call()


def some_rows(task: Task, many: int) -> Task:
    """So many training rows, evenly spaced, and no others."""
    rows = task.rows("train")
    return replace(task, tables={"train": rows.take(_spaced(len(rows), min(many, len(rows))))})


def _part(corpus: Corpus, many: int) -> Corpus:
    """So many documents, evenly spaced, as a corpus of their own."""
    if many >= len(corpus):
        return corpus
    ids = _spaced(len(corpus), many)
    return Corpus(corpus.name, f"{corpus.fingerprint}-{many}", corpus.table.take(ids))


def _spaced(all_: int, many: int) -> Ints:
    return np.arange(many) * all_ // many
