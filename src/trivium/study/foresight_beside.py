"""What choosing auxiliary tasks would take: the selector is asked to choose, and its bank only counts.

Trainings that a selector asks its bank for are counted, batch by batch as they would be made side by side, and cost
what their steps were timed to take. What the selector computes itself (gradients, looks, games of a bandit) it does on
some of the rows, with encoders that were not trained, and that is drawn out. Trials have made-up outcomes: once each
is worse than the last, so that patience ends them soon, and once each is better.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import count
from typing import Any, cast

import numpy as np

from trivium import seeds
from trivium.auxiliary import AuxiliarySelector, Importance, Trial
from trivium.auxiliary.bank import keep_back
from trivium.auxiliary.heads import AttentionHeads
from trivium.auxiliary.importance import Estimator, measure
from trivium.auxiliary.protocol import Beside, Effort
from trivium.core import Ints, Stage, Stream, Task
from trivium.encoders import Encoder, Scratch
from trivium.kinds import Cut
from trivium.study.arms import settled
from trivium.study.bands import Aside, Band, growing, spread_out, timed
from trivium.study.foresight import Scene, some_rows, tolerant
from trivium.study.rehearsal import Rehearsal
from trivium.study.timing import Timing
from trivium.training import StudyModels, new_encoder, torch_device
from trivium.training.turns import planned_updates

_FIRST = 24  # rows of each task that are tried first
_MEASURED = 32  # rows whose head importance is timed
_ROUNDS = 2  # of a bandit, that stand for all


@dataclass(frozen=True)
class Cost:
    """What choosing takes.

    Attributes:
        seconds: How long.
        disk: Bytes of encoders that are kept.
    """

    seconds: Band
    disk: Band


def auxiliary(
    scene: Scene, selector: AuxiliarySelector, rehearsal: Rehearsal, workers: int, done: set[str] | None = None
) -> Cost:
    """Choosing what to learn beside, once.

    Args:
        scene: What choices are tried with.
        selector: Who chooses.
        rehearsal: What a worker takes to begin, and a training beside its updates.
        workers: Trainings side by side.
        done: What was trained for others before, and is not trained again; what this one trains is added.
    """
    timing, before = scene.timing, set(done or ())
    effort = selector if isinstance(selector, Effort) else Effort()
    rounds, small = getattr(selector, "rounds", 1), cast("Any", selector)
    if hasattr(selector, "rounds"):
        small = replace(small, rounds=min(rounds, _ROUNDS))
    most = max(len(task.rows("train")) for task in (timing.task, *timing.candidates))
    looked_at = min(most, effort.rows or most)
    asked: list[Band] = []
    kept: list[int] = []

    def own(many: int) -> float:
        asked.clear()
        kept.clear()
        spent = []
        for rising in (False, True):
            bank = DryBank(timing, effort, rehearsal, workers, many, rising, set(before))
            begun = time.perf_counter()
            tolerant(lambda bank=bank: small.choose(bank))  # type: ignore[misc]
            spent.append(time.perf_counter() - begun - bank.aside.seconds)
            asked.append(bank.seconds)
            kept.append(bank.kept)
            if done is not None and not rising:  # as much as will be there in any case
                done.update(bank.done)
        return sum(spent) / len(spent)

    line = growing(own, looked_at, start=_FIRST)
    computed = line.at(looked_at) * (effort.seeds * rounds / min(rounds, _ROUNDS))
    trained = Band(sum(one.value for one in asked) / len(asked), min(b.low for b in asked), max(b.high for b in asked))
    return Cost(computed + trained, Band.between(min(kept), max(kept)) * rehearsal.disk)


@dataclass
class DryBank:
    """A bank that trains nothing (``auxiliary.protocol.Bank``), and knows what it was spared.

    Attributes:
        timing: What steps take.
        effort: How much would be spent.
        rehearsal: What a worker and a training take beside.
        workers: Trainings side by side.
        rows: How many rows of a task are there to be looked at.
        rising: Whether each trial is better than the last.
        done: What is not done again.
        seconds: Of all that would have been done so far.
        aside: What its answers took.
        kept: Encoders that would have been kept on disk.
    """

    timing: Timing
    effort: Effort
    rehearsal: Rehearsal
    workers: int
    rows: int
    rising: bool
    done: set[str]
    seconds: Band = field(default_factory=lambda: Band.exactly(0.0))
    aside: Aside = field(default_factory=Aside)
    kept: int = 0

    def __post_init__(self) -> None:
        """Rows for the selector to look at itself; how much there is in truth, costs know."""
        known = self.timing
        self.seed, self.seeds = 0, (0,)
        self.task = keep_back(some_rows(known.task, max(self.rows, _FIRST)), self.effort.kept, self.effort.kept_rows, 0)
        self.candidates = tuple(some_rows(task, self.rows) for task in known.candidates)
        self._tried = count()
        self._measure: dict[str, Band] = {}

    def language(self, seed: int) -> Encoder:
        """One that would have filled gaps, if it is from scratch."""
        if isinstance(self.timing.spec, Scratch):
            stage = self.stage("adapt", updates=StudyModels.updates, mix={"texts": 1})
            self._keep("language", self._training(stage, ()))
        return self._encoder()

    def finetuned(self, task: Task, seed: int) -> Encoder:
        """One that would have learned a task alone."""
        found = self._with_heads([task])
        self.seconds += self._training(self.stage("finetune", epochs=self.effort.epochs), (), task) * self.effort.seeds
        return found

    def joint(self, seed: int) -> Encoder:
        """One that would have learned all tasks beside each other."""
        found = self._with_heads([self.task, *self.candidates])
        self._keep("joint", self._training(self._multitask, self.timing.candidates))
        return found

    def stage(self, preset: str, **changes: Any) -> Stage:
        """As a stored bank has it."""
        return self.effort.stage(self.timing.spec, preset, **changes)

    def sample(self, task: Task) -> Task:
        """The rows that are there."""
        return replace(task, tables={"train": task.rows("train")})

    def importance(self, tasks: Sequence[Task], estimator: Estimator) -> dict[str, list[Importance]]:
        """Made-up importances; in truth each task would be learned alone, and each of its rows looked at."""
        self.language(0)
        encoder = self._encoder()
        shape, rng = AttentionHeads.of(encoder.backbone).shape, seeds.numpy_rng(0, "plan", "importance")
        jobs = list[Band]()
        for whole in map(self._whole, tasks):
            if not self._new(f"importance {whole.name} {estimator}"):
                continue
            many = min(len(whole.rows("train")), self.effort.rows or len(whole.rows("train")))
            alone = self._training(self.stage("finetune", epochs=self.effort.epochs), (), whole)
            jobs += [alone + self._row(whole, estimator) * float(many)] * self.effort.seeds
        self._side_by_side(jobs)
        return {
            task.name: [Importance(task.name, estimator, rng.random((len(task.rows("train")), *shape), np.float32))]
            for task in tasks
        }

    def trials(self, sets: Sequence[Beside]) -> list[Trial]:
        """Made-up outcomes of learning the task beside some candidates."""
        self.language(0)
        jobs, found = list[Band](), list[Trial]()
        for beside in sets:
            others = [self._with(task, beside[task.name]) for task in self.timing.candidates if task.name in beside]
            if self._new(f"trial {sorted((one.name, len(one.rows('train'))) for one in others)}"):
                jobs += [self._training(settled(self._multitask, others), others)] * self.effort.seeds
            value = next(self._tried) * (1e-3 if self.rising else -1e-3)
            rows = {task.name: len(task.rows("train")) for task in others}
            found.append(Trial(rows, (value,), (0.0,), 0.0, 0, np.zeros((1, len(self.task.rows("dev")), 1))))
        self._side_by_side(jobs)
        return found

    @property
    def _multitask(self) -> Stage:
        return self.effort.multitask(self.timing.spec)

    def _training(self, stage: Stage, beside: Sequence[Task], task: Task | None = None) -> Band:
        """A training of a task beside others."""
        whole, rows = task or self.timing.task, {one.name: len(one.rows("train")) for one in beside}
        with self.aside():
            own = len(self._whole(whole).rows("train"))
            tokens: dict[Stream, int] = {"texts": self.timing.tokens_of_texts(stage.max_length)}
            updates = planned_updates(stage, own, tokens, rows, task=self.timing.task.name)
            steps = self.timing.steps(self._multitask if "auxiliary" in stage.mix else stage)
            each = self.timing.update(stage, steps, beside)
            if whole.name != self.timing.task.name:
                each = self.timing.steps(self._multitask).seconds.get(whole.name, each)
        return each * float(updates) + self.rehearsal.stage

    def _row(self, task: Task, estimator: Estimator) -> Band:
        """Measuring one row."""
        if task.name not in self._measure:
            few = some_rows(task, _MEASURED)
            with self.aside():
                encoder = self._with_heads([few])
                seconds = timed(lambda: measure(encoder, few, estimator=estimator))
            self._measure[task.name] = Band.exactly(seconds / len(few.rows("train"))).off()
        return self._measure[task.name]

    def _whole(self, task: Task) -> Task:
        """The task with all the rows that the study has."""
        known = {one.name: one for one in (self.timing.task, *self.timing.candidates)}
        return known.get(task.name, task)

    def _with(self, task: Task, rows: Ints | None) -> Task:
        """A candidate with as large a share of its rows as was chosen of those that are there."""
        whole = len(task.rows("train"))
        return task if rows is None else some_rows(task, max(1, round(whole * len(rows) / min(whole, self.rows))))

    def _new(self, what: str) -> bool:
        """Whether something is to be done: once, for all selectors that spend as much on it."""
        named = f"{what}, {[getattr(self.effort, each.name) for each in fields(Effort)]}"
        if named in self.done:
            return False
        self.done.add(named)
        return True

    def _keep(self, what: str, job: Band) -> None:
        """A training by every seed, whose encoders are kept."""
        if self._new(what):
            self._side_by_side([job] * self.effort.seeds)
            self.kept += self.effort.seeds

    def _side_by_side(self, jobs: Sequence[Band]) -> None:
        crowded = [job * self.rehearsal.crowding for job in jobs]
        begin = self.rehearsal.begin if len(jobs) > 1 else Band.exactly(0.0)
        self.seconds += begin + spread_out([{i: one} for i, one in enumerate(crowded)], self.workers)

    def _with_heads(self, tasks: Sequence[Task]) -> Encoder:
        encoder, stage = self.language(0), self.stage("finetune")
        for task in tasks:
            encoder.add_head(task)
            encoder.keep_cut(task, Cut(stage.max_length, stage.long_text, stage.stride))
        return encoder

    def _encoder(self) -> Encoder:
        with self.aside():
            found = new_encoder(self.timing.spec, self.timing.tokenizer, self.effort.max_length, seed=0)
            return (found.cuda() if torch_device() == "cuda" else found).eval()
