"""What the rules of a diagnosis look at: the shapes of curves, the spread of seeds, the size of a study.

Pure functions of a run; what is thought of the numbers is said in ``diagnosis``.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median, stdev

from scipy.special import stdtrit

from trivium.core import JSON
from trivium.study.report_run import Run
from trivium.study.report_text import number
from trivium.study.report_verdict import LINEAR

FEWEST_LOSSES = 20  # a stage that wrote down fewer mean losses is too short to have a shape
MOST_SEEDS, MOST_TIMES = 50, 100.0  # more seeds, or more rows, than that is no advice
ONE_LABEL = 0.98  # of the answers that one label gets
FALLEN = 0.5  # of the median of the other seeds
_POWER = 2.8 / 1.96  # of a normal: what is seen in four of five cases, beside the half width at 95 %

LOSSES = {"mlm": "masked-language-model loss", "task": "loss on the task"}
Seen = list[tuple[float, float]]  # update, value


def stage_of(run: Run, arm: str, stage: str) -> JSON:
    """A stage of an arm as the manifest has it; empty if it has not."""
    stages = ((run.manifest.get("arms") or {}).get(arm) or {}).get("stages") or []
    return next((one for one in stages if one.get("name") == stage), {})


def reads(run: Run, arm: str) -> bool:
    """Whether an arm reads documents."""
    about = (run.manifest.get("arms") or {}).get(arm) or {}
    return any((about.get("documents") or {}).values())


def losses_of(run: Run, arms: Sequence[str]) -> dict[tuple[str, str], dict[str, list[Seen]]]:
    """Of each arm and stage, each loss's curve with every seed."""
    curves: dict[tuple[str, str], dict[str, dict[JSON, Seen]]] = {}
    for event in run.events:
        if event.get("event") == "loss" and event["arm"] in arms:
            stage = curves.setdefault((event["arm"], str(event.get("stage"))), {})
            for loss in LOSSES:
                value = number(event.get(loss))
                if value is not None:
                    stage.setdefault(loss, {}).setdefault(event.get("seed"), []).append((event["update"], value))
    return {place: {loss: list(seeds.values()) for loss, seeds in found.items()} for place, found in curves.items()}


def looks_of(run: Run, arm: str, stage: str) -> dict[JSON, Seen]:
    """The looks at dev of each seed in a stage."""
    looks: dict[JSON, Seen] = {}
    for event in run.events:
        value = number(event.get("value"))
        if event.get("event") == "look" and event["arm"] == arm and event.get("stage") == stage and value is not None:
            looks.setdefault(event.get("seed"), []).append((event["update"], value))
    return looks


def rise_of(curve: Seen) -> tuple[float, float] | None:
    """A loss at the beginning of a stage, and the highest mean of a tenth of the stage in its first half."""
    if len(curve) < FEWEST_LOSSES:
        return None
    values = [value for _, value in curve]
    width = len(values) // 10
    means = [fmean(values[i : i + width]) for i in range(len(values) // 2 - width + 1)]
    return fmean(values[: max(1, width // 2)]), max(means)


def quarters_of(curve: Seen) -> tuple[float, float] | None:
    """A loss in the second quarter of a stage and in the last."""
    if len(curve) < FEWEST_LOSSES:
        return None
    values = [value for _, value in curve]
    quarter = len(values) // 4
    return fmean(values[quarter : 2 * quarter]), fmean(values[-quarter:])


def best_at(looks: Seen) -> tuple[float, float, float] | None:
    """Which share of the looks had passed at the best of them, its value, and the last one's."""
    if len(looks) < 4:
        return None
    values = [value for _, value in looks]
    best = max(values)
    return (values.index(best) + 1) / len(values), best, values[-1]


def late_gain(values: Sequence[float]) -> float:
    """By how much the last look is better than the best before the last quarter; 0 if it is not the best."""
    before = max(values[: -max(1, len(values) // 4)])
    return values[-1] - before if values[-1] == max(values) and values.count(values[-1]) == 1 else 0.0


def fell(values: Mapping[JSON, float], seed: JSON) -> bool:
    """Whether a seed scored far below the others, of which there are at least two."""
    others = [value for other, value in values.items() if other != seed]
    return len(others) > 1 and values[seed] < FALLEN * median(others)


def one_label(line: JSON) -> bool:
    """Whether nearly all answers are one label, where the truth is not."""
    confusion = line.get("confusion") or []
    total = sum(map(sum, confusion))
    said, truth = [sum(column) for column in zip(*confusion, strict=True)], [sum(row) for row in confusion]
    return total > 0 and max(said) >= ONE_LABEL * total and max(truth) < ONE_LABEL * total


def mean_layers(events: Sequence[JSON]) -> dict[str, float]:
    """The mean cosine of each layer."""
    values: dict[str, list[float]] = {}
    for event in events:
        for layer, value in (event.get("layers") or {}).items():
            values.setdefault(layer, []).append(value)
    return {layer: fmean(found) for layer, found in values.items()}


def layer_name(name: str) -> str:
    """A layer in a sentence."""
    return f"layer {name}" if name.isdecimal() else f"the {name}"


def paired(run: Run, c: JSON, split: str, metric: str) -> list[float]:
    """The differences of two arms on a split, seed by seed."""
    sides: list[dict[JSON, float]] = [{}, {}]
    for line in run.scores:
        value = number((line.get("values") or {}).get(metric))
        if line.get("split") == split and value is not None:
            for side, arm in zip(sides, (c["arm"], c["baseline"]), strict=True):
                if line["arm"] == arm:
                    side[line["seed"]] = value
    return [value - sides[1][seed] for seed, value in sides[0].items() if seed in sides[1]]


def mean_and_error(differences: Sequence[float]) -> tuple[float, float]:
    """A mean and its standard error; of a single seed half a point, since its chance is unknown."""
    many = len(differences)
    return fmean(differences), stdev(differences) / math.sqrt(many) if many > 1 else 0.005


def needed(run: Run, c: JSON, rows: float | None) -> str:
    """How many seeds or rows would show a difference like the one seen, about: in four of five studies.

    The half width of the interval holds the chance of the seeds, known from the paired differences, and the rest is
    that of the rows; both shrink with the root of their number, and few seeds have a wide t-quantile besides.
    """
    pairs = [run.verdict["arms"][c[side]].get("per_seed") or [] for side in ("arm", "baseline")]
    differences = [a - b for a, b in zip(*pairs, strict=False)]
    low, high, size = number(c.get("low")), number(c.get("high")), abs(number(c.get("delta")) or 0.0)
    general = "More seeds and more test rows: the difference seen is too small to say how many."
    if low is None or high is None or len(differences) < 2 or size == 0:
        return general
    sd, many = stdev(differences), len(differences)
    by_seeds = -float(stdtrit(many - 1, 0.025)) * sd / math.sqrt(many)
    by_rows = _POWER * math.sqrt(max(((high - low) / 2) ** 2 - by_seeds**2, 0.0))
    enough = next((n for n in range(many + 1, MOST_SEEDS + 1) if math.hypot(_reach(sd, n), by_rows) <= size), None)
    room = size**2 - _reach(sd, many) ** 2
    times = by_rows**2 / room if room > 0 else math.inf
    ways = [f"about {enough} seeds"] if enough else []
    ways += [f"about {math.ceil(times * rows):,} test rows"] if rows and 1 < times <= MOST_TIMES else []
    return f"To see a difference of this size: {', or '.join(ways)}." if ways else general


def _reach(sd: float, seeds: int) -> float:
    """The smallest difference that so many seeds show in four of five cases, if seeds were the only chance."""
    quantiles = -float(stdtrit(seeds - 1, 0.025)) + float(stdtrit(seeds - 1, 0.8))
    return quantiles * sd / math.sqrt(seeds)


def read_tokens(stage: JSON) -> float:
    """Tokens of documents that a stage reads, padding included."""
    mix, updates = stage.get("mix") or {}, number(stage.get("updates")) or 0
    share: float = mix.get("documents", 0) / max(1, sum(mix.values()))
    return updates * share * (number(stage.get("batch_tokens")) or 0)


def asked(run: Run) -> list[JSON]:
    """The comparisons among trained arms."""
    return [c for c in run.verdict["comparisons"] if LINEAR not in (c["arm"], c["baseline"])]
