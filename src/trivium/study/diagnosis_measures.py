"""What the rules of a diagnosis look at: the shapes of curves, the spread of seeds, the size of a study.

Pure functions of a run; what is thought of the numbers is said in ``diagnosis``.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median, stdev

from trivium.core import JSON
from trivium.study.report_run import Run
from trivium.study.report_text import number
from trivium.study.report_verdict import LINEAR

FEWEST_LOSSES = 20  # a stage that wrote down fewer mean losses is too short to have a shape
MOST_SEEDS = 50  # more than that is no advice
ONE_LABEL = 0.98  # of the answers that one label gets
FALLEN = 0.5  # of the median of the other seeds

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


def needed(c: JSON) -> str:
    """How many seeds or rows would show a difference like the one seen, as the verdict works it out."""
    seeds, rows = number((c.get("seeds_needed") or {}).get("seen")), number(c.get("rows_needed"))
    ways = [f"about {seeds:.0f} seeds"] if seeds is not None and seeds <= MOST_SEEDS else []
    ways += [f"about {rows:,.0f} test rows"] if rows is not None else []
    if not ways:
        return "More seeds and more test rows: the difference seen is too small to say how many."
    return f"To see a difference of this size: {', or '.join(ways)}."


def read_tokens(stage: JSON) -> float:
    """Tokens of documents that a stage reads, padding included."""
    mix, updates = stage.get("mix") or {}, number(stage.get("updates")) or 0
    share: float = mix.get("documents", 0) / max(1, sum(mix.values()))
    return updates * share * (number(stage.get("batch_tokens")) or 0)


def asked(run: Run) -> list[JSON]:
    """The comparisons among trained arms."""
    return [c for c in run.verdict["comparisons"] if LINEAR not in (c["arm"], c["baseline"])]
