"""Real steps of stages, timed with a sample of the documents, on as many threads as a worker will have."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import count

import numpy as np

from trivium import seeds
from trivium.core import JSON, Corpus, Stage, Stream, Task
from trivium.data import count_words
from trivium.documents import Budget
from trivium.encoders.streams import padded_tokens
from trivium.engine import cores
from trivium.masking import Fits, Masker, RandomTokens
from trivium.study.arms import Arm, random_maskers
from trivium.study.bands import Band, timed
from trivium.study.reading import window_lengths
from trivium.training import encode_documents, make_tokenizer, new_encoder, torch_device
from trivium.training.loop import StageRun
from trivium.training.recipes import Spec
from trivium.training.spending import Rate, cost, flops_per_token, rate_of
from trivium.training.turns import take_turns

_SAMPLE = 2000  # documents that stand for those an arm will read
_WARM, _FEWEST, _MOST = 2, 5, 40  # steps of each stream
_DRAWN = 1.05  # times by which tokens of all batches may differ from those of the first
_LOOKS = 3  # at dev; the first is slower than those that follow
_SECONDS = 0.5  # that steps of a stream are timed for, if they are not too few by then


@dataclass(frozen=True)
class StagePlan:
    """One stage of one arm, with one seed.

    Attributes:
        stage: Its name.
        updates: Updates of the weights.
        tokens: Tokens computed, padding included.
        seconds: How long it would take, looks at dev included; the lower end knows of early stopping.
        flops: 6 × parameters × tokens (TLM, section 4.1); of frozen weights 2.
        trained_for: The arm before it that has the same stage after the same ones: it is trained once.
    """

    stage: str
    updates: int
    tokens: float
    seconds: Band
    flops: Band
    trained_for: str | None = None

    def to_json(self) -> dict[str, JSON]:
        """As ``trivium check --json`` prints it."""
        about: dict[str, JSON] = {name: getattr(self, name) for name in ("stage", "updates", "tokens", "trained_for")}
        return {**about, **self.seconds.named("seconds"), **self.flops.named("flops")}


@dataclass(frozen=True)
class Steps:
    """What an update of a stage takes.

    Attributes:
        seconds: Of each stream, for one of its turns.
        look: One look at dev.
        rate: Tokens of an update, the mean over the mix.
        flops: Operations of a token.
    """

    seconds: Mapping[str, Band]
    look: Band
    rate: Rate
    flops: float


class Timing:
    """Times steps; stages that differ in length and rate alone are timed once."""

    def __init__(
        self, spec: Spec, task: Task, corpus: Corpus | None, workers: int, candidates: Sequence[Task] = ()
    ) -> None:
        self.spec, self.task, self.corpus, self.candidates = spec, task, corpus, candidates
        self.texts = _sample(corpus)
        self.tokenizer = make_tokenizer(self.spec, task, self.texts, candidates)
        self.threads = max(1, cores() // workers)
        self.known: dict[str, Steps] = {}
        self.sizes: dict[int, int] = {}
        self.parameters = 0

    def tokens(self, arms: Mapping[str, Arm]) -> dict[str, dict[Stream, int]]:
        """About how many tokens each arm will read: for a stage whose length is in passes over documents or texts."""
        found: dict[str, dict[Stream, int]] = {name: {"documents": self._document_tokens(arms[name])} for name in arms}
        for name, arm in arms.items():
            lengths = window_lengths(arm.recipe.stages, "texts")
            found[name]["texts"] = max(map(self.tokens_of_texts, lengths), default=0)
        return found

    def costs(self, arms: Mapping[str, Arm], equal: str) -> dict[str, list[float]]:
        """What an update of each stage takes of what arms spend alike (``lengths.update_costs``)."""

        def of(arm: Arm, stage: Stage) -> float:
            steps = self.steps(stage, arm.recipe.masker)
            return cost(equal, steps.rate, steps.flops)

        return {name: [of(arm, stage) for stage in arm.recipe.stages] for name, arm in arms.items()}

    def _document_tokens(self, arm: Arm) -> int:
        if not self.texts or self.corpus is None:
            return 0
        total = int(self.corpus.words.sum(dtype=np.int64))
        return int(min(total, Budget.of(arm.selector).max_tokens or total) * self._per_word)

    @cached_property
    def _per_word(self) -> float:
        return len(encode_documents(self.tokenizer, self.texts, 512).ids) / sum(map(count_words, self.texts))

    def tokens_of_texts(self, length: int) -> int:
        """Tokens of the task's own texts in windows of a length, padding included."""
        if length not in self.sizes:
            self.sizes[length] = padded_tokens(encode_documents(self.tokenizer, self.task.passages()[0], length))
        return self.sizes[length]

    def plan(self, arm: Arm, stage: Stage) -> StagePlan:
        """What a stage of an arm takes."""
        assert stage.updates is not None, "equalise has written every length in updates"
        steps = self.steps(stage, arm.recipe.masker)
        tokens = stage.updates * steps.rate.computed
        share = least_updates(stage, looks="task" in stage.mix and "dev" in self.task.tables) / stage.updates
        flops = Band.exactly(tokens * steps.flops).off(_DRAWN)
        flops = replace(flops, low=share * flops.low)
        return StagePlan(stage.name, stage.updates, tokens, self.seconds(arm, stage), flops)

    def seconds(self, arm: Arm, stage: Stage) -> Band:
        """How long a stage takes, its looks at dev among it."""
        assert stage.updates is not None
        steps, looked = self.steps(stage, arm.recipe.masker), "task" in stage.mix and "dev" in self.task.tables
        looks = stage.updates / every(stage) if looked else 0.0
        whole = self.update(stage, steps, self.candidates) * stage.updates + steps.look * looks
        share = least_updates(stage, looks=looked) / stage.updates
        return Band(whole.value, whole.low * share, whole.high)

    def update(self, stage: Stage, steps: Steps, beside: Sequence[Task]) -> Band:
        """Seconds of an update, the mean over turns where some tasks are learned beside the study's own."""
        learned = beside if "auxiliary" in stage.mix else ()
        rows = {one.name: len(one.rows("train")) for one in (self.task, *learned)}
        turns = take_turns(stage, rows, {"documents": 1, "texts": 1}, 0)
        names = [turns.turn(update)[0] for update in range(min(4096, 64 * len(turns.cycle)))]
        return Band.sum(steps.seconds[name] * (names.count(name) / len(names)) for name in dict.fromkeys(names))

    def steps(self, stage: Stage, masker: Masker | Fits | None = None) -> Steps:
        """What an update takes, whatever the length of the stage."""
        key = repr((replace(stage, name="", updates=1, epochs=None, lr=0.0), masker))
        if key not in self.known:
            self.known[key] = self._time(stage, stand_in(masker or RandomTokens()))
        return self.known[key]

    def _time(self, stage: Stage, masker: Masker) -> Steps:
        encoder = new_encoder(self.spec, self.tokenizer, stage.max_length, seed=0)
        if torch_device() == "cuda":
            encoder = encoder.cuda()
        self.parameters = encoder.parameter_count
        documents = encode_documents(self.tokenizer, self.texts, stage.max_length) if self.texts else None
        with seeds.torch_scope(0, "plan"), torch_threads(self.threads):
            run = StageRun(encoder, stage, self.task, documents, masker, 0, self.candidates)
            encoder.train()
            found = {stream: Band.of(step_seconds(run, stream)) for stream in run.streams}
            looks = [0.0] if run.dev is None else [timed(run.look) for _ in range(_LOOKS)][1:]
            look = Band.of(looks).off()
        return Steps(found, look, rate_of(run), flops_per_token(encoder, stage.freeze))


def every(stage: Stage) -> int:
    """Updates between two looks at dev."""
    assert stage.updates is not None
    return stage.evaluate_every or max(1, stage.updates // 10)


def least_updates(stage: Stage, *, looks: bool) -> int:
    """The fewest updates that early stopping leaves of a stage: its patience must end, and half of it be over.

    >>> tune = Stage("tune", {"task": 1}, updates=100, patience=4)
    >>> least_updates(tune, looks=True), least_updates(tune, looks=False)
    (50, 100)
    """
    assert stage.updates is not None
    if stage.patience is None or not looks:
        return stage.updates
    many = max(stage.patience + 1, math.ceil(stage.updates / 2 / every(stage)))
    return min(stage.updates, many * every(stage))


def stand_in(masker: Masker | Fits) -> Masker:
    """A masker that is ready to choose: as large a share at random where the arm's own learns first."""
    if not isinstance(masker, Fits):
        return masker
    return next(iter(random_maskers(masker)), RandomTokens())


def step_seconds(run: StageRun, stream: str) -> list[float]:
    """Seconds of some steps with a batch of this stream."""
    turns = (update for update in count() if run.turns.turn(update)[0] == stream)
    seconds: list[float] = []
    begun = 0.0
    for n in range(_WARM + _MOST):
        if n == _WARM:
            begun = time.perf_counter()
        seconds.append(timed(partial(run.step, next(turns))))
        if n >= _WARM + _FEWEST - 1 and time.perf_counter() - begun > _SECONDS:
            break
    return seconds[_WARM:]


@contextmanager
def torch_threads(many: int) -> Iterator[None]:
    """Compute on so many threads for a while."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(many)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _sample(corpus: Corpus | None) -> list[str]:
    """Documents that stand for those that an arm will read."""
    if corpus is None or len(corpus) == 0:
        return []
    some = seeds.numpy_rng(0, "plan").choice(len(corpus), min(_SAMPLE, len(corpus)), replace=False)
    return corpus.texts(np.sort(some))
