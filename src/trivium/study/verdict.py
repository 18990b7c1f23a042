"""The verdict: which arm helped, which hurt, where there is no evidence, and in what words it is told.

``statistics`` measures a pair of arms; here the pairs of a study are judged together. Two families of questions are
corrected for their number, each for itself (Holm 1979): those among trained arms (each against the baseline, and
against its random twin), and those against the linear model. The linear model stands in every study whether or not
somebody asked for it, and asks another question (is an encoder worth its while?); in one family it would double the
number of questions and cost power where the study was meant to have it.

Where arms are the cells of a grid, its main effects and interactions are a family of their own.

The interval is that of its pair alone, at 95 %; ``p_holm`` knows of the others. Both come from the same formula, so
they can part in one way only: the interval leaves out 0, and ``p_holm`` is not below 0.05. The verdict is then "no
evidence", and the sentence says why. A study that added seeds and looked more than once has a level for its last look
that allows for the others (``looks``): its intervals are those of that level, and its p-values are scaled so that 0.05
is still what they are held against. Means, tables and figures for readers are the report's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

import numpy as np

from trivium.core import JSON
from trivium.errors import ArtifactError
from trivium.seeds import numpy_rng
from trivium.study import report_verdict
from trivium.study.factors import Question, in_words
from trivium.study.looks import Look, settled
from trivium.study.report_text import (
    clip,
    count,
    duration,
    interval,
    listed,
    metric_name,
    plural,
    points,
    probability,
    short,
    signed,
    spread,
)
from trivium.study.statistics import ALPHA, Effect, bootstrap, contrast, holm

if TYPE_CHECKING:  # a report needs no kinds, and with them torch
    from trivium.kinds.metrics import Counts, Metric

Word = Literal["helped", "hurt", "no evidence"]
Pair = tuple[str, str]
_SIZES = (1, 2, 5)  # differences in points, of which a reader is told how many seeds they take
T = TypeVar("T")
K = TypeVar("K")


@dataclass(frozen=True)
class ArmResult:
    """What an arm did, as the study hands it in.

    Attributes:
        name: Its name in the study file.
        outcomes: The counts of every row with every seed, ``[seeds, rows, counts]``; one seed if it is deterministic,
            none if the arm failed.
        updates: Updates of the weights, mean over seeds.
        tokens: Tokens seen, mean over seeds.
        seconds: Time to train, mean over seeds.
        failed: Why it could not be trained; none if it could.
        flops: Floating-point operations of its training, mean over seeds; 0 where they are not known.
    """

    name: str
    outcomes: "Counts | None"
    updates: int
    tokens: int
    seconds: float
    failed: str | None
    flops: float = 0.0


@dataclass(frozen=True)
class ArmScore:
    """How an arm scored and what it cost, as ``verdict.json`` has it.

    ``mean`` is none and ``per_seed`` empty if the arm failed; ``sd`` is none with fewer than two seeds.
    """

    mean: float | None
    sd: float | None
    per_seed: tuple[float, ...]
    updates: int
    tokens: int
    seconds: float
    failed: str | None
    flops: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """One arm against another, as ``verdict.json`` has it.

    Attributes:
        arm: The arm.
        baseline: The arm it is measured against: the study's baseline, a random twin, or the linear model.
        delta: Mean over seeds of metric(arm) - metric(baseline).
        low: Lower end of the 95 % interval, not corrected for the number of questions.
        high: Its upper end.
        p_holm: The p-value, corrected for the number of questions in its family.
        verdict: ``helped`` or ``hurt`` where ``p_holm`` is below 0.05, by the sign of ``delta``; else ``no evidence``.
        smallest_detectable: The smallest true difference that a study like this one calls in four of five cases; none
            if no row tells the arms apart.
        sentence: All that in words.
        p_seeds: The exact p-value of the seeds' signs alone, not corrected; see ``Effect.p_seeds``.
        seeds_needed: Seeds, settled beforehand and judged at the level 0.05, that would call a true difference of so
            many points in four of five cases, by points, and one as large as ``delta`` under ``seen``; none where it
            cannot be told, or where no number of seeds would, the test rows being too few.
        rows_needed: Test rows that would call one as large as ``delta`` with the seeds that there are; none likewise.
    """

    arm: str
    baseline: str
    delta: float
    low: float
    high: float
    p_holm: float
    verdict: Word
    smallest_detectable: float | None
    sentence: str
    p_seeds: float | None = None
    seeds_needed: Mapping[str, int | None] = field(default_factory=dict)
    rows_needed: int | None = None


@dataclass(frozen=True)
class FactorEffect:
    """What a factor of a grid does, or how two of them depend on each other, as ``verdict.json`` has it.

    Attributes:
        change: Of each factor that is asked about, its first level and the one that is looked at.
        weights: Of each arm in the sum that ``delta`` is.
        delta: By how much the change moves the metric, the mean over seeds and over the levels of the other factors;
            of several factors, how much more the change of one does where the others are changed too.
        low: As in ``Comparison``, with all that follows.
        high: See there.
        p_holm: See there.
        verdict: See there.
        smallest_detectable: See there.
        sentence: See there.
        p_seeds: See there.
        seeds_needed: See there.
        rows_needed: See there.
    """

    change: Mapping[str, Pair]
    weights: Mapping[str, float]
    delta: float
    low: float
    high: float
    p_holm: float
    verdict: Word
    smallest_detectable: float | None
    sentence: str
    p_seeds: float | None = None
    seeds_needed: Mapping[str, int | None] = field(default_factory=dict)
    rows_needed: int | None = None


@dataclass(frozen=True)
class Verdict:
    """What came out of a study; ``to_json`` is ``verdict.json``.

    Pairs of which one arm failed are not among the comparisons, and effects with such an arm not among the effects;
    ``arms`` says why. ``looks`` are those at the results so far, where seeds are added; ``settled`` is whether that may
    end.
    """

    study: str
    task: str
    metric: str
    split: str
    baseline: str
    seeds: tuple[int, ...]
    arms: Mapping[str, ArmScore]
    comparisons: tuple[Comparison, ...]
    effects: tuple[FactorEffect, ...] = ()
    looks: tuple[Look, ...] = ()
    settled: bool = True

    @property
    def headline(self) -> str:
        """What was asked first, in a sentence: did the methods help against the baseline?"""
        return report_verdict.headline(self.to_json())

    def lines(self) -> list[str]:
        """The verdict for a terminal: a table of the arms, then a sentence for each comparison."""
        title = f"{short(self.study)}: {metric_name(self.metric)} on {self.split}, {plural(len(self.seeds), 'seed')}"
        rows = [("arm", metric_name(self.metric), "updates", "tokens", "time")]
        for name, arm in self.arms.items():
            cost = (count(arm.updates or None), count(arm.tokens or None), duration(arm.seconds or None))
            rows.append((short(name), spread(arm.mean, arm.sd), *cost))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        table = []
        for (name, *cells), failed in zip(rows, [None, *(arm.failed for arm in self.arms.values())], strict=True):
            right = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
            why = [f"failed: {clip(' '.join(failed.split()), 100)}"] if failed is not None else right
            table.append("  ".join([name.ljust(widths[0]), *why]).rstrip())
        sentences = [c.sentence for c in self.comparisons] + [e.sentence for e in self.effects] or [self.headline]
        if len(self.looks) > 1:
            title += f" after {plural(len(self.looks), 'look')}"
        return [f"{title}, baseline {short(self.baseline)}", "", *table, "", *sentences]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def to_json(self) -> dict[str, JSON]:
        """The fixed shape of ``verdict.json``."""
        return {
            **{name: getattr(self, name) for name in ("study", "task", "metric", "split", "baseline")},
            "seeds": list(self.seeds),
            "arms": {name: {**asdict(arm), "per_seed": list(arm.per_seed)} for name, arm in self.arms.items()},
            "comparisons": [asdict(comparison) for comparison in self.comparisons],
            "effects": [asdict(effect) for effect in self.effects],
            "looks": [asdict(look) for look in self.looks],
            "settled": self.settled,
        }

    @classmethod
    def from_json(cls, value: JSON) -> Self:
        """Read what ``to_json`` made; keys that it does not know are passed over.

        Raises:
            ArtifactError: something is missing.
        """
        try:
            arms = {
                n: _known(ArmScore, {**a, "per_seed": tuple(a["per_seed"] or ())}) for n, a in value["arms"].items()
            }
            parts = {
                "comparisons": tuple(_known(Comparison, comparison) for comparison in value["comparisons"]),
                "effects": tuple(_known(FactorEffect, effect) for effect in value.get("effects", ())),
                "looks": tuple(_known(Look, look) for look in value.get("looks", ())),
            }
            return _known(cls, {**value, "seeds": tuple(value["seeds"]), "arms": arms, **parts})
        except (KeyError, TypeError, AttributeError) as error:
            what = f"nothing under {error}" if isinstance(error, KeyError) else str(error)
            raise ArtifactError(
                f"verdict.json: expected the verdict of a finished run, found {what}. Run the study again: finished "
                "parts are reused, and the verdict is written at its end."
            ) from error


def _known(cls: type[T], value: JSON) -> T:
    """A dataclass from what is known of it; what has a default may be missing."""
    free = {one.name for one in fields(cls) if not (one.default is MISSING and one.default_factory is MISSING)}  # type: ignore[arg-type]
    named = [one.name for one in fields(cls) if one.name not in free or one.name in value]  # type: ignore[arg-type]
    return cls(**{name: value[name] for name in named})


def decide(
    study: str,
    task: str,
    metric: str,
    metric_function: "Metric",
    split: str,
    baseline: str,
    seeds: Sequence[int],
    arms: Sequence[ArmResult],
    pairs: Sequence[Pair],
    rng: np.random.Generator,
    *,
    questions: Sequence[Question] = (),
    looks: Sequence[Look] = (),
    last: Look | None = None,
) -> Verdict:
    """Judge a study.

    Args:
        study: Its name.
        task: The task's name.
        metric: The metric's name.
        metric_function: The metric, a function of counts that are summed over rows.
        split: What the arms were judged on.
        baseline: The arm that the study measures the others against.
        seeds: The seeds, in the order of the arms' outcomes.
        arms: What each arm did; the linear model is called ``linear``.
        pairs: Which arm is compared with which. A pair of which one arm failed is left out.
        rng: One number is drawn from it. Every pair then has a stream of its own, by name: its numbers depend neither
            on the order of the arms nor on what else is compared, ``p_holm`` and ``smallest_detectable`` excepted.
        questions: What is asked of the factors of a grid. One with an arm that failed is left out.
        looks: The looks at the results so far, this one last, where seeds are added until all is settled.
        last: The last look that is planned.
    """
    outcomes = {arm.name: arm.outcomes for arm in arms if arm.outcomes is not None}
    seed = int(rng.integers(2**63))
    level = looks[-1].level if looks else ALPHA
    effects: dict[Pair, Effect] = {}
    for pair in pairs:
        if set(pair) <= set(outcomes):
            stream = numpy_rng(seed, *sorted(pair))  # sorted: swapped sides give the opposite difference
            effects[pair] = bootstrap(outcomes[pair[0]], outcomes[pair[1]], metric_function, stream)
    linear = {pair for pair in effects if pair[1] == report_verdict.LINEAR}
    asked = [question for question in questions if set(question.weights) <= set(outcomes)]
    moved = {
        question.name: contrast(
            [outcomes[arm] for arm in question.weights],
            list(question.weights.values()),
            metric_function,
            numpy_rng(seed, "factors", question.name),
        )
        for question in asked
    }
    about = (level, metric, max((scored.shape[1] for scored in outcomes.values()), default=0))
    trained = _family({pair: effect for pair, effect in effects.items() if pair not in linear}, *about)
    beside = _family({pair: effects[pair] for pair in linear}, *about)
    factors = _family(moved, *about)
    readings = {**trained, **beside}
    open_ones = [each for family in (trained, factors) for each in family.values()]
    return Verdict(
        study,
        task,
        metric,
        split,
        baseline,
        tuple(seeds),
        {arm.name: _score(arm, metric_function) for arm in arms},
        tuple(_compare(pair, readings[pair], baseline) for pair in effects),
        tuple(_factor(question, factors[question.name]) for question in asked),
        tuple(looks),
        last is None or all(settled(each.effect, each.p, each.questions, looks[-1], last) for each in open_ones),
    )


def _family(effects: Mapping[K, Effect], level: float, metric: str, rows: int) -> "dict[K, _Reading]":
    """Questions that are corrected for their number together."""
    adjusted = holm([effect.p for effect in effects.values()])
    return {
        name: _Reading(effect, p, len(effects), level, metric, rows)
        for (name, effect), p in zip(effects.items(), adjusted, strict=True)
    }


@dataclass(frozen=True)
class _Reading:
    """A difference, and what it is held against.

    Attributes:
        effect: The difference.
        p: Its p-value, corrected for the number of questions.
        questions: How many there are in its family.
        level: Below which p-value a difference is called.
        metric: The metric's name.
        rows: How many were judged.
    """

    effect: Effect
    p: float
    questions: int
    level: float
    metric: str
    rows: int

    @property
    def word(self) -> Word:
        return "no evidence" if self.p >= self.level else "helped" if self.effect.delta > 0 else "hurt"

    @property
    def p_told(self) -> float:
        """The corrected p-value, such that 0.05 is what it is held against."""
        return min(1.0, self.p * ALPHA / self.level)

    def numbers(self) -> dict[str, Any]:
        """What ``verdict.json`` says of any difference, but for the sentence."""
        reach, seen = self.effect.half_width(self.level), abs(self.effect.delta)
        sizes = {**{str(size): size / 100 for size in _SIZES}, "seen": seen}
        times = self.effect.rows_for(seen, self.questions)
        return {
            "delta": self.effect.delta,
            "low": self.effect.delta - reach,
            "high": self.effect.delta + reach,
            "p_holm": self.p_told,
            "verdict": self.word,
            "smallest_detectable": self.effect.smallest_detectable(self.questions, self.level),
            "p_seeds": self.effect.p_seeds,
            "seeds_needed": {name: self.effect.seeds_for(size, self.questions) for name, size in sizes.items()},
            "rows_needed": None if times is None else round(times * self.rows),
        }

    def measured(self) -> str:
        """The difference and its interval."""
        delta, reach = self.effect.delta, self.effect.half_width(self.level)
        said = f"{signed(delta)} points of {metric_name(self.metric)} {interval(delta - reach, delta + reach)}"
        return said + (", with one seed" if self.effect.seeds == 1 else "")

    def in_doubt(self) -> str:
        """Why there is no evidence, and how much there would have to be."""
        smallest = self.effect.smallest_detectable(self.questions, self.level)
        if smallest is None:
            return "no row tells them apart"
        luck = ""
        if self.effect.p < self.level:  # the interval leaves out 0
            luck = f"; among {self.questions} comparisons that may be luck (Holm's p = {probability(self.p_told)})"
        seen = f"{points(smallest)} or more" if smallest < 1 else "hardly any difference"  # more than there can be
        return f"{self.measured()}{luck}; this design would have seen {seen}"


def _score(arm: ArmResult, metric: "Metric") -> ArmScore:
    cost = (arm.updates, arm.tokens, arm.seconds, arm.failed, arm.flops)
    if arm.outcomes is None:
        return ArmScore(None, None, (), *cost)
    values = metric(arm.outcomes.sum(1))
    sd = float(values.std(ddof=1)) if len(values) > 1 else None
    return ArmScore(float(values.mean()), sd, tuple(values.tolist()), *cost)


def _compare(pair: Pair, reading: _Reading, baseline: str) -> Comparison:
    arm, other = pair
    if reading.word == "no evidence":
        sentence = f"no evidence that {arm} differs from {other}: {reading.in_doubt()}"
    elif other == baseline:
        sentence = f"{arm} {reading.word}: {reading.measured()}"
    else:
        sentence = f"{arm} is {'better' if reading.word == 'helped' else 'worse'} than {other}: {reading.measured()}"
    return Comparison(arm, other, **reading.numbers(), sentence=sentence)


def _factor(question: Question, reading: _Reading) -> FactorEffect:
    changes = in_words(question.change)
    named = listed(changes, sum(map(len, changes)))
    if len(changes) == 1:
        doubt, found = f"{named} makes a difference", f"{named} {reading.word}"
    else:
        doubt = f"{named} depend on each other"
        found = f"{named} do {'more' if reading.effect.delta > 0 else 'less'} together than by themselves"
    none = reading.word == "no evidence"
    sentence = f"no evidence that {doubt}: {reading.in_doubt()}" if none else f"{found}: {reading.measured()}"
    return FactorEffect(question.change, question.weights, **reading.numbers(), sentence=sentence)
