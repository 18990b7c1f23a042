"""What a study would take, before it takes it: a few real steps of every stage are timed, and multiplied.

``trivium check`` prints it. It reads and screens all the data, and leaves nothing in the run folder. Steps are those of
``timing``, what choices take is foreseen by ``foresight``, and what no step tells (workers that begin and are in each
other's way, loading and saving, memory, disk) by ``rehearsal``. What is measured is real (this encoder, these texts,
this machine); what is multiplied is an estimate, and stands with a band that is meant to hold nine times in ten.

A masker that learns first has a random one stand for it while steps are timed, and all candidates stand for the tasks
that will be chosen to be learned beside.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from trivium.auxiliary import SELECTORS as BESIDE
from trivium.auxiliary import AllTasks, AuxiliarySelector, NoTasks
from trivium.config import StudyConfig, build, load_config
from trivium.core import JSON, Corpus, Stream, Task
from trivium.data import fingerprint64
from trivium.documents import SELECTORS, NoDocuments
from trivium.documents.heldout import EQUAL, HeldOut, words_of
from trivium.documents.screens import Screens
from trivium.encoders import Pretrained, Scratch
from trivium.engine import cores
from trivium.masking import Fits
from trivium.study import foresight
from trivium.study.arms import (
    Arm,
    equalise,
    questions,
    resolve,
    spelled,
    spelled_encoder,
    spelled_masker,
    spelled_stage,
)
from trivium.study.bands import Band, spread_out
from trivium.study.budget import decide
from trivium.study.foreseen import ChoicePlan, Plan
from trivium.study.foresight import Scene
from trivium.study.foresight_beside import auxiliary
from trivium.study.foresight_hiding import masker
from trivium.study.inputs import load_candidates, load_inputs, worker_count
from trivium.study.job import in_turn
from trivium.study.linear import LINEAR_MODELS
from trivium.study.progress import Bar, Reporter, Silent
from trivium.study.reading import window_lengths
from trivium.study.rehearsal import Rehearsal, peak_memory, rehearsed
from trivium.study.timing import StagePlan, Timing
from trivium.training import masks, new_encoder, seed_of
from trivium.training.recipes import Spec
from trivium.training.warmup import lacks_head

_BLOCK = 8192  # documents screened at a time
_APART = 1.5  # times by which the process of a study may differ from this one, which makes steps, and no report


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
    planner = Planner.of(config, reporter)
    notes = [*planner.notes]
    if config.budget is not None:
        decision = decide(config, planner.takes)
        config, notes = decision.apply(config), [*notes, decision.told()]
    first, most = len(config.seed_list), len(config.most_seeds)
    if most > first:
        notes.append(f"adaptive: this is for {first} seeds; up to {most} may be trained.")
    if planner.corpus is not None:
        with reporter.phase("looking for duplicates and held-out texts") as bar:
            notes += [*planner.corpus.notes, *_screened(planner.task, planner.corpus, planner.screens, bar)]
    return replace(planner.plan(config, reporter), notes=tuple(notes))


@dataclass
class Planner:
    """Plans a study, and the same study with other lengths and seeds: what was measured is measured once.

    Attributes:
        config: The study file.
        task: The task with all its splits.
        corpus: The documents, if anything reads them.
        candidates: Tasks that may be learned beside.
        scenes: Of each encoder, its steps that were timed and what choices are tried with.
        screens: What is left out.
        loading: Seconds that reading the data took.
    """

    config: StudyConfig
    task: Task
    corpus: Corpus | None
    candidates: tuple[Task, ...]
    scenes: Mapping[Spec, Scene]
    screens: Screens
    loading: float = 0.0

    @classmethod
    def of(cls, config: StudyConfig, reporter: Reporter) -> "Planner":
        """Reads the data."""
        arms = resolve(config)
        screens = build(Screens, config.screens, "screens")
        begun = time.perf_counter()
        task, corpus = load_inputs(config, arms, reporter)
        candidates = load_candidates(config, arms)
        loading = time.perf_counter() - begun
        scenes = {}
        for spec in dict.fromkeys(arm.spec for arm in arms.values()):
            timing = Timing(spec, task.sealed(), corpus, worker_count(config), candidates)
            scenes[spec] = Scene(timing, corpus, task, screens, cores())
        return cls(config, task, corpus, candidates, scenes, screens, loading)

    @property
    def notes(self) -> list[str]:
        """What loading decided."""
        return [*self.task.notes, *(f"{one.name}: {note}" for one in self.candidates for note in one.notes)]

    def takes(self, config: StudyConfig) -> tuple[float, float, float]:
        """Seconds of such a study: what is expected, and both ends."""
        seconds = self.plan(config).seconds
        return seconds.value, seconds.low, seconds.high

    def plan(self, config: StudyConfig, reporter: Reporter | None = None) -> Plan:
        """What a study takes that differs from this one in lengths of stages and seeds alone."""
        arms, many = self._equal(config), len(config.seed_list)
        with (reporter or Silent()).phase("timing a few steps") as bar:
            planned: dict[str, tuple[StagePlan, ...]] = {}
            names = {name: _stage_names(arm) for name, arm in arms.items()}
            firsts = {stage: arm for arm, stages in reversed(names.items()) for stage in stages}
            for i, (name, arm) in enumerate(arms.items()):
                planned[name] = tuple(
                    replace(self.scenes[arm.spec].timing.plan(arm, stage), trained_for=_unless(name, firsts[key]))
                    for stage, key in zip(arm.recipe.stages, names[name], strict=True)
                )
                bar(i + 1, len(arms) + 1)
            heard = {name: self._rehearsals[arm.spec] for name, arm in arms.items()}
            choices = tuple(self._choices(arms, many))
            bar(1, 1)
        workers = min(worker_count(config), many * len(arms))
        jobs = [
            {
                (key, seed): (stage.seconds + heard[name].stage) * heard[name].crowding
                for key, stage in zip(names[name], planned[name], strict=True)
            }
            for name, seed in in_turn([*arms], config.seed_list, worker_count(config))
        ]
        training = self._largest.begin + spread_out(jobs, workers)
        here = Band.exactly(float(peak_memory())).off(_APART)
        worker = self._largest.memory if workers > 1 else here  # which rehearsed, but wrote no report
        return Plan(
            study=config.name,
            rows={split: len(rows) for split, rows in self.task.tables.items()},
            kind=self.task.kind,
            labels=len(self.task.labels),
            documents=len(self.corpus) if self.corpus is not None else 0,
            notes=(),
            arms=planned,
            choices=choices,
            encoders=len(self.scenes),
            parameters=max(scene.timing.parameters for scene in self.scenes.values()),
            seeds=many,
            workers=workers,
            training=training,
            seconds=Band.sum([training, *(choice.seconds for choice in choices)]),
            worker_memory=worker,
            memory=here + worker * float(workers) if workers > 1 else here,
            disk=self._disk(arms, planned, many),
        )

    def _equal(self, config: StudyConfig) -> dict[str, Arm]:
        """The arms, their lengths in updates."""
        arms = resolve(config)
        rows = {one.name: len(one.rows("train")) for one in self.candidates}
        beside = {name: rows for name, arm in arms.items() if arm.auxiliary is not None}
        own = len(self.task.rows("train"))
        costs: dict[str, list[float]] = {}
        read: dict[str, dict[Stream, int]] = {}
        for spec, scene in self.scenes.items():
            alike = {name: arm for name, arm in arms.items() if arm.spec == spec}
            costs |= scene.timing.costs(alike, config.equal)
            read |= scene.timing.tokens(alike)
        return equalise(arms, own, read, beside, costs, task=self.task.name, equal=config.equal)

    @cached_property
    def _trained(self) -> dict[Spec, set[str]]:
        """What was trained to choose auxiliary tasks, which arms with the same encoder share."""
        return {spec: set() for spec in self.scenes}

    @cached_property
    def _rehearsals(self) -> dict[Spec, Rehearsal]:
        """Of each encoder, in the arm with the largest batches: it says how much memory a worker needs."""
        arms = self._equal(self.config)
        many = min(worker_count(self.config), len(arms) * len(self.config.seed_list))

        def rehearsal(spec: Spec, timing: Timing) -> Rehearsal:
            def batch(arm: Arm) -> float:
                return max(timing.steps(stage, arm.recipe.masker).rate.computed for stage in arm.recipe.stages)

            return rehearsed(max((arm for arm in arms.values() if arm.spec == spec), key=batch), timing, many)

        return {spec: rehearsal(spec, scene.timing) for spec, scene in self.scenes.items()}

    @property
    def _largest(self) -> Rehearsal:
        """Of the encoder whose workers need most memory."""
        return max(self._rehearsals.values(), key=lambda heard: heard.memory.high)

    @cached_property
    def _groups(self) -> list["_Group"]:
        """What is done before training: once for arms that choose alike, with one seed."""
        arms, found = resolve(self.config), dict[str, _Group]()
        for arm in arms.values():
            for what, key, seeded, measure in self._made_for(arm):
                name = repr((what, key))
                if name not in found:
                    found[name] = _Group(what, [], seeded, *measure())
                found[name].arms.append(arm.name)
        for spec, scene in self.scenes.items():
            alike = [arm for arm in arms.values() if arm.spec == spec]
            if self._wants_head(alike, scene.timing):
                who = [arm.name for arm in alike]
                found[repr(("head", spec))] = _Group("head", who, False, foresight.head(scene), _NOTHING)
        return list(found.values())

    def _made_for(self, arm: Arm) -> Iterator[tuple[str, JSON, bool, Callable[[], tuple[Band, Band]]]]:
        """What is made for an arm before it is trained: what, of what, whether by every seed, and seconds and bytes."""
        scene, read, stages = self.scenes[arm.spec], spelled(arm.selector, SELECTORS), arm.recipe.stages
        own, beside, encoder = arm.recipe.masker, arm.auxiliary, spelled_encoder(arm.spec)
        drawn = not isinstance(arm.selector, NoDocuments) and arm.selector.seeded
        if not isinstance(arm.selector, NoDocuments):
            yield "documents", read, drawn, lambda: (foresight.documents(scene, arm), _NOTHING)
        if beside is not None and not isinstance(beside, AllTasks | NoTasks):
            seeded = bool(getattr(beside, "seeded", False))
            yield "beside", [encoder, spelled(beside, BESIDE)], seeded, partial(self._beside, beside, arm.spec)
            drawn = drawn or (seeded and isinstance(arm.spec, Scratch))
        laid = _laid(arm)
        yield "reading", laid, drawn, lambda: foresight.reading(scene, arm)
        if isinstance(own, Fits):
            key = [laid, spelled_masker(own), max(stage.max_length for stage in stages)]
            yield "masker", key, drawn or seed_of(own, 1) == 1, lambda: (masker(scene, arm), _NOTHING)

    def _beside(self, selector: AuxiliarySelector, spec: Spec) -> tuple[Band, Band]:
        heard, workers = self._rehearsals[spec], worker_count(self.config)
        cost = auxiliary(self.scenes[spec], selector, heard, workers, self._trained[spec])
        return cost.seconds, cost.disk

    def _wants_head(self, arms: Sequence[Arm], timing: Timing) -> bool:
        """Whether a head for gaps may have to be warmed up first."""
        hides, spec = masks(stage for arm in arms for stage in arm.recipe.stages), timing.spec
        return hides and isinstance(spec, Pretrained) and lacks_head(new_encoder(spec, timing.tokenizer, 128, 0))

    def _choices(self, arms: Mapping[str, Arm], many: int) -> Iterator[ChoicePlan]:
        """What is done before training and after it, with so many seeds."""
        yield ChoicePlan("loading", (), 1, Band.exactly(self.loading).off(2.0))
        for group in self._groups:
            who, times = tuple(group.arms), many if group.seeded else 1
            yield ChoicePlan(group.what, () if len(who) == len(arms) else who, times, group.seconds * float(times))
        yield ChoicePlan("judging", (), len(arms) * many, self._judging(arms) * float(many))
        linear = self.config.linear and self.task.kind in LINEAR_MODELS
        if linear:
            yield ChoicePlan("linear", (), 1, self._linear)
        asked = len(questions(resolve(self.config), self.config.baseline)) + linear * len(arms)
        yield ChoicePlan("verdict", (), 1, foresight.verdict(self._compared, asked))

    def _judging(self, arms: Mapping[str, Arm]) -> Band:
        return Band.sum(
            foresight.judging(self.scenes[arm.spec], arm.recipe.stages, self._rehearsals[arm.spec].stage)
            for arm in arms.values()
        )

    @cached_property
    def _compared(self) -> float:
        return foresight.comparison(self.task, len(self.config.seed_list))

    @cached_property
    def _linear(self) -> Band:
        return foresight.linear(next(iter(self.scenes.values())))

    def _disk(self, arms: Mapping[str, Arm], planned: Mapping[str, Sequence[StagePlan]], many: int) -> Band:
        """Trained stages, tokens, and encoders that choices keep."""
        own = {name: sum(stage.trained_for is None for stage in stages) for name, stages in planned.items()}
        stages = many * sum(own[name] * self._rehearsals[arm.spec].disk for name, arm in arms.items())
        others = (group.disk * float(many if group.seeded else 1) for group in self._groups)
        return Band.sum([Band.exactly(stages).off(_ODDS), *others])


@dataclass
class _Group:
    """A choice that some arms share.

    Attributes:
        what: What is done.
        arms: For whom.
        seeded: Whether every seed does it anew.
        seconds: How long it takes once.
        disk: Bytes that it leaves.
    """

    what: str
    arms: list[str]
    seeded: bool
    seconds: Band
    disk: Band


def _laid(arm: Arm) -> JSON:
    """What an arm's tokenizer and tokens depend on, beside the task: its documents, and what else it reads."""
    stages, beside = arm.recipe.stages, arm.auxiliary if isinstance(arm.spec, Scratch) else None
    return [
        spelled_encoder(arm.spec),
        spelled(arm.selector, SELECTORS),
        None if beside is None else spelled(beside, BESIDE),
        window_lengths(stages, "documents"),
        window_lengths(stages, "texts"),
    ]


def _stage_names(arm: Arm) -> list[str]:
    """Of each stage, what its weights depend on beside the task and the seed, as ``job.train_arm`` names artifacts."""
    stages, beside = arm.recipe.stages, None if arm.auxiliary is None else spelled(arm.auxiliary, BESIDE)
    shared = [_laid(arm), spelled_masker(arm.recipe.masker), max(stage.max_length for stage in stages)]
    so_far = [[spelled_stage(stage), beside if "auxiliary" in stage.mix else None] for stage in stages]
    return [repr([shared, so_far[: i + 1]]) for i in range(len(stages))]


def _unless(name: str, other: str) -> str | None:
    return None if name == other else other


_NOTHING = Band.exactly(0.0)
_ODDS = 1.1  # what lies in the run folder beside: answers, reports, choices


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
