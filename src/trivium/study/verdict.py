"""The verdict: which arm helped, which hurt, where there is no evidence, and in what words it is told.

``statistics`` measures a pair of arms; here the pairs of a study are judged together. Two families of questions are
corrected for their number, each for itself (Holm 1979): those among trained arms (each against the baseline, and
against its random twin), and those against the linear model. The linear model stands in every study whether or not
somebody asked for it, and asks another question (is an encoder worth its while?); in one family it would double the
number of questions and cost power where the study was meant to have it.

The interval is that of its pair alone, at 95 %; ``p_holm`` knows of the others. Both come from the same formula, so
they can part in one way only: the interval leaves out 0, and ``p_holm`` is not below 0.05. The verdict is then "no
evidence", and the sentence says why. Means, tables and figures for readers are the report's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import TYPE_CHECKING, Literal, Self, TypeVar

import numpy as np

from trivium.core import JSON
from trivium.errors import ArtifactError
from trivium.seeds import numpy_rng
from trivium.study import report_verdict
from trivium.study.report_text import (
    clip,
    count,
    duration,
    interval,
    metric_name,
    plural,
    points,
    probability,
    short,
    signed,
    spread,
)
from trivium.study.statistics import ALPHA, Effect, bootstrap, holm

if TYPE_CHECKING:  # a report needs no kinds, and with them torch
    from trivium.kinds.metrics import Counts, Metric

Word = Literal["helped", "hurt", "no evidence"]
Pair = tuple[str, str]
T = TypeVar("T")


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


@dataclass(frozen=True)
class Verdict:
    """What came out of a study; ``to_json`` is ``verdict.json``.

    Pairs of which one arm failed are not among the comparisons; ``arms`` says why.
    """

    study: str
    task: str
    metric: str
    split: str
    baseline: str
    seeds: tuple[int, ...]
    arms: Mapping[str, ArmScore]
    comparisons: tuple[Comparison, ...]

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
        sentences = [c.sentence for c in self.comparisons] or [self.headline]
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
            comparisons = tuple(_known(Comparison, comparison) for comparison in value["comparisons"])
            return _known(cls, {**value, "seeds": tuple(value["seeds"]), "arms": arms, "comparisons": comparisons})
        except (KeyError, TypeError, AttributeError) as error:
            what = f"nothing under {error}" if isinstance(error, KeyError) else str(error)
            raise ArtifactError(
                f"verdict.json: expected the verdict of a finished run, found {what}. Run the study again: finished "
                "parts are reused, and the verdict is written at its end."
            ) from error


def _known(cls: type[T], value: JSON) -> T:
    known = [field.name for field in fields(cls) if field.name in value or field.default is MISSING]  # type: ignore[arg-type]
    return cls(**{name: value[name] for name in known})


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
    """
    outcomes = {arm.name: arm.outcomes for arm in arms if arm.outcomes is not None}
    seed = int(rng.integers(2**63))
    effects: dict[Pair, Effect] = {}
    for pair in pairs:
        if set(pair) <= set(outcomes):
            stream = numpy_rng(seed, *sorted(pair))  # sorted: swapped sides give the opposite difference
            effects[pair] = bootstrap(outcomes[pair[0]], outcomes[pair[1]], metric_function, stream)
    families = [[pair for pair in effects if (pair[1] == report_verdict.LINEAR) == linear] for linear in (False, True)]
    judged = {}
    for family in families:
        for pair, p_holm in zip(family, holm([effects[pair].p for pair in family]), strict=True):
            judged[pair] = _compare(pair, effects[pair], p_holm, len(family), metric, baseline)
    return Verdict(
        study,
        task,
        metric,
        split,
        baseline,
        tuple(seeds),
        {arm.name: _score(arm, metric_function) for arm in arms},
        tuple(judged[pair] for pair in effects),
    )


def _score(arm: ArmResult, metric: "Metric") -> ArmScore:
    cost = (arm.updates, arm.tokens, arm.seconds, arm.failed, arm.flops)
    if arm.outcomes is None:
        return ArmScore(None, None, (), *cost)
    values = metric(arm.outcomes.sum(1))
    sd = float(values.std(ddof=1)) if len(values) > 1 else None
    return ArmScore(float(values.mean()), sd, tuple(values.tolist()), *cost)


def _compare(pair: Pair, effect: Effect, p_holm: float, questions: int, metric: str, baseline: str) -> Comparison:
    verdict: Word = "no evidence" if p_holm >= ALPHA else "helped" if effect.delta > 0 else "hurt"
    smallest = effect.smallest_detectable(questions)
    measured = f"{signed(effect.delta)} points of {metric_name(metric)} {interval(effect.low, effect.high)}"
    measured += ", with one seed" if effect.seeds == 1 else ""
    arm, other = pair
    if verdict == "no evidence":
        sentence = f"no evidence that {arm} differs from {other}: "
        if smallest is None:
            sentence += "no row tells them apart"
        else:
            sentence += measured + _luck(effect, p_holm, questions) + _seen(smallest)
    elif other == baseline:
        sentence = f"{arm} {verdict}: {measured}"
    else:
        sentence = f"{arm} is {'better' if verdict == 'helped' else 'worse'} than {other}: {measured}"
    return Comparison(arm, other, effect.delta, effect.low, effect.high, p_holm, verdict, smallest, sentence)


def _luck(effect: Effect, p_holm: float, questions: int) -> str:
    """Why an interval without 0 is no evidence."""
    if effect.p >= ALPHA:
        return ""
    return f"; among {questions} comparisons that may be luck (Holm's p = {probability(p_holm)})"


def _seen(smallest: float) -> str:
    seen = f"{points(smallest)} or more" if smallest < 1 else "hardly any difference"  # more than there can be
    return f"; this design would have seen {seen}"
