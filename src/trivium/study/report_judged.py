"""How sure the arms are, what held-out text was found in the corpus, and how far two losses agree, as rows to show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from scipy.special import stdtrit

from trivium.core import JSON
from trivium.study.report_run import Curve, Run
from trivium.study.report_text import NOTHING, clip, count, number, points

MOST_ARMS = 9  # of a figure
MOST_LEAKS = 5
_RULES = {"equal": "the whole text", "half": "half of its words"}


@dataclass(frozen=True)
class Panel:
    """An arm's reliability.

    Attributes:
        arm: Its name.
        bins: Of each bin that has answers: confidence, share right, least and most of a seed, share of all answers.
    """

    arm: str
    bins: tuple[tuple[float, float, float, float, float], ...]


@dataclass(frozen=True)
class Calibration:
    """How well the arms know how right they are.

    Attributes:
        rows: Of each arm: name, error, its interval over seeds, error by chance, confidence, share right, what it says.
        panels: Of each arm, what is drawn.
        left_out: How many arms are not drawn.
    """

    rows: tuple[tuple[str, str, str, str, str, str, str], ...]
    panels: tuple[Panel, ...]
    left_out: int


@dataclass(frozen=True)
class Leaks:
    """Held-out text in the corpus.

    Attributes:
        sentence: What was looked for, and how much was found.
        rows: Of some documents: number, which row they hold, by which rule, and the words.
        off: Whether documents that hold parts of held-out texts were let through.
    """

    sentence: str
    rows: tuple[tuple[str, str, str, str], ...]
    off: bool


def calibration(run: Run) -> Calibration | None:
    """How sure the arms are on the verdict's split; none where no score says it."""
    said: dict[str, list[JSON]] = {}
    for line in run.scores:
        if line.get("split") == run.verdict["split"] and (line.get("calibration") or {}).get("answers"):
            said.setdefault(line["arm"], []).append(line["calibration"])
    if not said:
        return None
    shown = list(said)[:MOST_ARMS]
    return Calibration(
        rows=tuple(_row(arm, seeds) for arm, seeds in said.items()),
        panels=tuple(Panel(arm, _bins(said[arm])) for arm in shown),
        left_out=len(said) - len(shown),
    )


def _row(arm: str, seeds: Sequence[JSON]) -> tuple[str, str, str, str, str, str, str]:
    errors = [one["ece"] for one in seeds]
    sure, right = (fmean(_mean(one, column) for one in seeds) for column in (1, 2))
    by_chance, error = fmean(one["by_chance"] for one in seeds), fmean(errors)
    says = "too sure" if sure > right else "not sure enough"
    return (
        arm,
        points(error),
        _interval(errors),
        points(by_chance),
        points(sure),
        points(right),
        says if error > 2 * by_chance and abs(sure - right) > 0.01 else NOTHING,
    )


def _mean(one: JSON, column: int) -> float:
    """Of all answers, from the means of the bins."""
    return float(sum(each[0] * each[column] for each in one["bins"]) / one["answers"])


def _interval(values: Sequence[float]) -> str:
    """Student's 95 % interval of the mean over seeds, in points; an error is never below 0.

    >>> _interval([0.02, 0.04]), _interval([0.1])
    ('[0.0, 15.7]', '–')
    """
    if len(values) < 2:
        return NOTHING
    reach = -float(stdtrit(len(values) - 1, 0.025)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return f"[{points(max(0.0, fmean(values) - reach))}, {points(min(1.0, fmean(values) + reach))}]"


def _bins(seeds: Sequence[JSON]) -> tuple[tuple[float, float, float, float, float], ...]:
    """Of all seeds together: confidence, share right, least and most of a seed, and share of the answers."""
    answers = sum(one["answers"] for one in seeds)
    found = []
    for same in zip(*(one["bins"] for one in seeds), strict=True):
        full = [each for each in same if each[0]]
        if full:
            many = sum(n for n, _, _ in full)
            sure, right = (sum(each[0] * each[column] for each in full) / many for column in (1, 2))
            shares = [hits for _, _, hits in full]
            found.append((sure, right, min(shares), max(shares), many / answers))
    return tuple(found)


def leaks(run: Run) -> Leaks | None:
    """What of dev and test was found in the corpus; none where no arm reads it, or nothing is known."""
    counts = [about["counts"] for about in run.examples.values() if about.get("counts")]
    if not counts:
        return None
    screens = run.settings.get("screens")
    off = isinstance(screens, dict) and screens.get("contamination") is False
    equal, overlapping = (max(number(one.get(key)) or 0 for one in counts) for key in ("heldout_equal", "contaminated"))
    found = {entry["document"]: entry for audit in run.audits.values() for entry in audit}
    worst = sorted(found.values(), key=lambda entry: -len(str(entry.get("text") or "")))[:MOST_LEAKS]
    if off:
        said = "Only documents that equal a dev or test text were left out: the screen for parts of one was off."
    else:
        said = "Documents that equal a dev or test text, or hold a good part of one, were left out of every choice."
    most = f"{count(equal)} that equal one and {count(overlapping)} that hold parts of one"
    looked = f" At most, these were {most}." if equal or overlapping else " No such document was found."
    return Leaks(said + looked, tuple(map(_leak, worst)), off)


def _leak(entry: JSON) -> tuple[str, str, str, str]:
    rule = str(entry.get("rule") or "")
    said = _RULES.get(rule, f"{rule.removesuffix('-gram')} words in a row" if rule.endswith("-gram") else rule)
    text = clip(" ".join(str(entry.get("text") or "").split()), 240)
    return str(entry["document"]), f"{entry.get('split')} {entry.get('row')}", said, text


def agreement(run: Run) -> dict[str, dict[str, Curve]]:
    """Of each arm that compared gradients, and each layer, the mean cosine over seeds by update."""
    found: dict[str, dict[str, dict[int, list[float]]]] = {}
    for event in run.events:
        if event.get("event") == "gradients" and isinstance(event.get("layers"), dict):
            for layer, value in event["layers"].items():
                if number(value) is not None:
                    layers = found.setdefault(event["arm"], {}).setdefault(str(layer), {})
                    layers.setdefault(event["update"], []).append(float(value))
    return {
        arm: {layer: [(update, fmean(values)) for update, values in sorted(at.items())] for layer, at in layers.items()}
        for arm, layers in found.items()
    }


def agreement_rows(found: Mapping[str, Mapping[str, Curve]]) -> list[tuple[str, str, str, str]]:
    """Of each arm and layer: its mean cosine over updates, and in which share of the comparisons it was below 0.

    >>> agreement_rows({"tlm": {"1": [(0, 0.5), (50, -0.1)]}})
    [('tlm', '1', '+0.20', '50 %')]
    """
    said = []
    for arm, layers in found.items():
        for layer, curve in layers.items():
            values = [value for _, value in curve]
            below = sum(value < 0 for value in values) / len(values)
            said.append((arm, layer, cosine(fmean(values)), f"{100 * below:.0f} %"))
    return said


def cosine(value: float) -> str:
    """A cosine with its sign.

    >>> cosine(-0.123)
    '−0.12'
    """
    return f"{value:+.2f}".replace("-", "−")
