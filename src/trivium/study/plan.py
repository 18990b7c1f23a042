"""What a study would take, before it takes it: a few real steps of every stage are timed, and multiplied.

``trivium check`` prints it. It reads and screens all the data, and leaves nothing in the run folder. What is timed is
real (this encoder, these texts, this machine); what is multiplied is an estimate, and choosing and tokenising documents
are not in it, nor is what a masker does that learns first: a random one stands for it here. Nor is choosing what to
learn beside: all candidates stand for those that will be chosen.
"""

import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import count, islice
from pathlib import Path

import numpy as np

from trivium import seeds
from trivium.config import StudyConfig, build, load_config
from trivium.core import JSON, Corpus, Stage, Stream, Task
from trivium.data import count_words, fingerprint64
from trivium.documents import Budget
from trivium.documents.heldout import EQUAL, HeldOut, words_of
from trivium.documents.screens import Screens
from trivium.encoders.streams import padded_tokens
from trivium.engine import cores
from trivium.masking import Fits, Masker, RandomTokens
from trivium.study.arms import Arm, equalise, random_maskers, resolve
from trivium.study.inputs import load_candidates, load_inputs, worker_count
from trivium.study.progress import Bar, Reporter, Silent
from trivium.study.reading import window_lengths
from trivium.training import encode_documents, make_tokenizer, new_encoder, torch_device
from trivium.training.loop import StageRun
from trivium.training.recipes import make_spec

_SAMPLE = 2000  # documents that stand for those an arm will read
_WARM, _TIMED = 2, 5  # steps of each stream
_CYCLES = 100  # over which turns are counted
_BLOCK = 8192  # documents screened at a time
_ANSWERS = {  # what rows have, by kind; others have labels
    "multilabel": "any of {} labels",
    "regress": "a number",
    "rank": "choices",
    "tag": "words of {} tags",
    "span": "answers in a context",
}


@dataclass(frozen=True)
class StagePlan:
    """One stage of one arm, with one seed.

    Attributes:
        stage: Its name.
        updates: Updates of the weights.
        tokens: Tokens computed, padding included.
        seconds: How long it would take, looks at dev included.
        flops: 6 × parameters × tokens (TLM, section 4.1).
    """

    stage: str
    updates: int
    tokens: float
    seconds: float
    flops: float


@dataclass(frozen=True)
class Plan:
    """What a study would do and take.

    Attributes:
        study: Its name.
        rows: Rows of each split.
        kind: What kind of task it is.
        labels: How many logits its head has: labels, tags, or the one or two of kinds without labels.
        documents: Documents of the corpus.
        notes: What loading decided and the screens found.
        arms: The stages of each arm, with one seed.
        parameters: Weights of the encoder.
        seeds: How many seeds.
        workers: How many jobs run at a time.
        seconds: Training time of the whole study.
        memory: Largest memory of all workers together, in bytes.
        disk: Size of the trained models, in bytes.
    """

    study: str
    rows: Mapping[str, int]
    kind: str
    labels: int
    documents: int
    notes: tuple[str, ...]
    arms: Mapping[str, tuple[StagePlan, ...]]
    parameters: int
    seeds: int
    workers: int
    seconds: float
    memory: int
    disk: int

    @property
    def flops(self) -> float:
        """Of the whole study."""
        return self.seeds * sum(stage.flops for stages in self.arms.values() for stage in stages)

    def to_json(self) -> dict[str, JSON]:
        """All of it, as ``trivium check --json`` prints it."""
        return {**asdict(self), "flops": self.flops}

    def to_text(self) -> str:
        """The plan as a person reads it."""
        rows = ", ".join(f"{n:,} {split}" for split, n in self.rows.items())
        answers = _ANSWERS.get(self.kind, "{} labels").format(self.labels)
        lines = [f"{self.study}: {rows} rows with {answers}; {self.documents:,} documents to choose from"]
        lines += [f"note: {note}" for note in self.notes]
        width = max(len(name) for name in self.arms)
        lines += ["", f"{'arm':<{width}}  {'stage':<12} {'updates':>9} {'tokens':>9} {'time':>8} {'FLOPs':>8}"]
        for name, stages in self.arms.items():
            for i, s in enumerate(stages):
                arm = name if i == 0 else ""
                lines.append(
                    f"{arm:<{width}}  {s.stage:<12} {s.updates:>9,} {_large(s.tokens):>9} {_time(s.seconds):>8} "
                    f"{s.flops:>8.1e}"
                )
        return "\n".join(
            [
                *lines,
                "",
                f"encoder   {_large(self.parameters)} parameters, on {torch_device()}",
                f"training  about {_time(self.seconds)} for {len(self.arms)} arms × {self.seeds} seeds, "
                f"{self.workers} at a time; early stopping may shorten it.",
                "          Choosing what to read and to learn beside, and learning what to hide, come on top.",
                f"memory    about {self.memory / 2**30:.1f} GiB",
                f"disk      about {self.disk / 2**20:,.0f} MiB of models",
                f"compute   {self.flops:.1e} FLOPs",
            ]
        )


def make_plan(study: StudyConfig | Path | str, overrides: Sequence[str] = (), reporter: Reporter | None = None) -> Plan:
    """Check a study file and its data, and estimate what running it would take.

    Args:
        study: The study file, or what ``load_config`` made of one.
        overrides: ``key=value`` pairs that win over the file.
        reporter: Who is told how it goes; nobody, if not given.

    Raises:
        TriviumError: the study file or the data is not what it should be.
    """
    reporter = reporter or Silent()
    config = study if isinstance(study, StudyConfig) else load_config(study, overrides)
    screens = build(Screens, config.screens, "screens")
    arms = resolve(config)
    task, corpus = load_inputs(config, arms, reporter)
    candidates = load_candidates(config, arms)
    notes = list(task.notes) + [f"{one.name}: {note}" for one in candidates for note in one.notes]
    if corpus is not None:
        with reporter.phase("looking for duplicates and held-out texts") as bar:
            notes += [*corpus.notes, *_screened(task, corpus, screens, bar)]
    with reporter.phase("timing a few steps") as bar:
        workers = worker_count(config)
        timing = _Timing(config, task.sealed(), corpus, workers, candidates)
        rows = {one.name: len(one.rows("train")) for one in candidates}
        beside = {name: rows for name, arm in arms.items() if arm.auxiliary is not None}
        own = len(task.rows("train"))
        arms = equalise(arms, own, timing.tokens(arms), beside, task=task.name, equal=config.equal)
        planned = {}
        for i, (name, arm) in enumerate(arms.items()):
            planned[name] = tuple(timing.plan(arm, stage) for stage in arm.recipe.stages)
            bar(i + 1, len(arms))
    jobs = len(config.seed_list)
    stages = sum(len(stages) for stages in planned.values())
    return Plan(
        study=config.name,
        rows={split: len(rows) for split, rows in task.tables.items()},
        kind=task.kind,
        labels=len(task.labels),
        documents=len(corpus) if corpus is not None else 0,
        notes=tuple(notes),
        arms=planned,
        parameters=timing.parameters,
        seeds=jobs,
        workers=min(workers, jobs * len(arms)),
        seconds=jobs * sum(s.seconds for plans in planned.values() for s in plans) / min(workers, jobs * len(arms)),
        memory=_peak_memory() * min(workers, jobs * len(arms)),
        disk=jobs * stages * 2 * 4 * timing.parameters,  # the backbone with each of its two heads, float32
    )


@dataclass(frozen=True)
class _Update:
    """What an update takes, the mean over a stage's mix, and one look at dev."""

    seconds: float
    tokens: float
    look: float


class _Timing:
    """Real steps with a sample of the documents, on as many threads as a worker will have."""

    def __init__(
        self, config: StudyConfig, task: Task, corpus: Corpus | None, workers: int, candidates: Sequence[Task] = ()
    ) -> None:
        self.spec, self.task, self.corpus, self.candidates = make_spec(config.encoder), task, corpus, candidates
        self.texts = _sample(corpus)
        self.tokenizer = make_tokenizer(self.spec, task, self.texts, candidates)
        self.threads = max(1, cores() // workers)
        self.known: dict[str, _Update] = {}
        self.sizes: dict[int, int] = {}
        self.parameters = 0

    def tokens(self, arms: Mapping[str, Arm]) -> dict[str, dict[Stream, int]]:
        """About how many tokens each arm will read: for a stage whose length is in passes over documents or texts."""
        found: dict[str, dict[Stream, int]] = {name: {"documents": self._document_tokens(arms[name])} for name in arms}
        for name, arm in arms.items():
            lengths = window_lengths(arm.recipe.stages, "texts")
            found[name]["texts"] = max(map(self._text_tokens, lengths), default=0)
        return found

    def _document_tokens(self, arm: Arm) -> int:
        if not self.texts or self.corpus is None:
            return 0
        total = int(self.corpus.words.sum(dtype=np.int64))
        return int(min(total, Budget.of(arm.selector).max_tokens or total) * self._per_word)

    @cached_property
    def _per_word(self) -> float:
        return len(encode_documents(self.tokenizer, self.texts, 512).ids) / sum(map(count_words, self.texts))

    def _text_tokens(self, length: int) -> int:
        if length not in self.sizes:
            self.sizes[length] = padded_tokens(encode_documents(self.tokenizer, self.task.passages()[0], length))
        return self.sizes[length]

    def plan(self, arm: Arm, stage: Stage) -> StagePlan:
        """What a stage takes; stages that differ in length and rate alone are timed once."""
        assert stage.updates is not None, "equalise has written every length in updates"
        key = repr((replace(stage, name="", updates=1, lr=0.0), arm.recipe.masker))
        if key not in self.known:
            self.known[key] = self._time(arm, stage)
        update = self.known[key]
        looks = stage.updates / (stage.evaluate_every or max(1, stage.updates // 10))
        tokens = stage.updates * update.tokens
        seconds = stage.updates * update.seconds + looks * update.look
        return StagePlan(stage.name, stage.updates, tokens, seconds, 6 * self.parameters * tokens)

    def _time(self, arm: Arm, stage: Stage) -> _Update:
        encoder = new_encoder(self.spec, self.tokenizer, stage.max_length, seed=0)
        if torch_device() == "cuda":
            encoder = encoder.cuda()
        self.parameters = encoder.parameter_count
        documents = encode_documents(self.tokenizer, self.texts, stage.max_length) if self.texts else None
        with seeds.torch_scope(0, "plan"), torch_threads(self.threads):
            masker = _stand_in(arm.recipe.masker)
            run = StageRun(encoder, stage, self.task, documents, masker, 0, self.candidates)
            encoder.train()
            found = {stream: _steps(run, stream) for stream in run.streams}
            look = _timed(run.look) if run.dev is not None else 0.0
        turns = Counter(run.turns.turn(update)[0] for update in range(len(run.turns.cycle) * _CYCLES))
        seconds, tokens = (sum(turns[s] * found[s][i] for s in found) / turns.total() for i in (0, 1))
        return _Update(seconds, tokens, look)


def _stand_in(masker: Masker | Fits) -> Masker:
    """A masker that is ready to choose: as large a share at random where the arm's own learns first."""
    if not isinstance(masker, Fits):
        return masker
    return next(iter(random_maskers(masker)), RandomTokens())


def _steps(run: StageRun, stream: str) -> tuple[float, float]:
    """Median seconds, and mean tokens, of a step with a batch of this stream."""
    turns = (update for update in count() if run.turns.turn(update)[0] == stream)
    seconds, before = [], 0
    for n, update in enumerate(islice(turns, _WARM + _TIMED)):
        if n == _WARM:
            before = run.trace.padded
        seconds.append(_timed(partial(run.step, update)))
    return float(np.median(seconds[_WARM:])), (run.trace.padded - before) / _TIMED


def _timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    if torch_device() == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter() - begun


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


def _screened(task: Task, corpus: Corpus, screens: Screens, bar: Bar) -> list[str]:
    """How many documents the screens would leave out; near-duplicates not counted, which take long for all of them."""
    held_out = HeldOut.of(task, contamination=screens.contamination)
    seen: set[int] = set()
    equal = contaminated = repeated = 0
    for start in range(0, len(corpus), _BLOCK):
        texts = corpus.texts(np.arange(start, min(start + _BLOCK, len(corpus))))
        names = [fingerprint64(text) for text in texts]
        for name, overlap in zip(names, held_out.look(names, words_of(texts)), strict=True):
            equal += overlap is not None and overlap.rule == EQUAL
            contaminated += overlap is not None and overlap.rule != EQUAL
            repeated += name in seen
            seen.add(name)
        bar(min(start + _BLOCK, len(corpus)), len(corpus))
    notes = []
    if equal:
        notes.append(f"{equal:,} documents equal a dev or test text; no arm will read them.")
    if contaminated:
        notes.append(f"{contaminated:,} documents hold a good part of a dev or test text; no arm will read them.")
    if repeated and screens.duplicates:
        notes.append(f"{repeated:,} documents repeat an earlier one; no arm will read one twice.")
    return notes


def _peak_memory() -> int:
    """Of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _large(number: float) -> str:
    """A number in thousands, millions or billions.

    >>> _large(1_230_000)
    '1.2 M'
    """
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f} {sign}"
    return f"{number:.0f}"


def _time(seconds: float) -> str:
    """A duration.

    >>> _time(59), _time(600), _time(7300)
    ('59 s', '10 min', '2.0 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
