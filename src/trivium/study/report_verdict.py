"""The verdict in words: title, headline, what to know before repeating it, and which question each comparison answers.

The numbers and the verdicts themselves are read, never made, here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trivium.core import JSON
from trivium.study.factors import in_words
from trivium.study.report_run import Run
from trivium.study.report_text import count, listed, metric_name, number, plural, short, signed

_NAMED = 4  # arms that a headline names, if nothing is known of them
_WHOLE = 400  # letters: names that are short already
LINEAR = "linear"  # the study's own reference arm; see ``trivium.study.linear``
SYMBOLS = {"helped": "▲", "hurt": "▼", "no evidence": "○"}
TOGETHER = {"helped": "more together", "hurt": "less together"}  # of an interaction, there is no better or worse
CALLED = ("helped", "hurt")
AGAINST_LINEAR = {"helped": "better", "hurt": "worse"}  # a linear model is no step of the arm: nothing helped or hurt


@dataclass(frozen=True)
class Comparison:
    """One arm against another, or what a factor of a grid does; numbers are fractions, none where there is none.

    ``seeds`` is how many it takes to see differences of 1, 2 and 5 points, in words.
    """

    arm: str
    baseline: str
    verdict: str
    said: str
    symbol: str
    delta: float | None
    low: float | None
    high: float | None
    p: float | None
    detectable: float | None
    seeds: str = ""


@dataclass(frozen=True)
class Group:
    """All arms that are compared with the same one, and what is asked by it."""

    question: str
    comparisons: tuple[Comparison, ...]


def title_of(run: Run) -> str:
    """What was measured, in a line."""
    verdict = run.verdict
    rows = next((line.get("rows") for line in run.scores if line.get("split") == verdict["split"]), None)
    encoder = run.settings.get("encoder") or {}
    parts = [
        f"Task {short(verdict['task'])}",
        f"{metric_name(verdict['metric'])} on {verdict['split']}" + (f" ({plural(rows, 'row')})" if rows else ""),
        f"{encoder['scratch']} encoder from scratch" if encoder.get("scratch") else "",
        f"encoder {short(str(encoder['pretrained']))}" if encoder.get("pretrained") else "",
        plural(len(verdict["seeds"]), "seed"),
        f"baseline {short(verdict['baseline'])}",
    ]
    return " · ".join(part for part in parts if part)


def headline(verdict: JSON) -> str:
    """What was asked first, in a sentence: did the arms help against the baseline, or the choices of a grid?

    Args:
        verdict: What ``verdict.json`` holds.
    """
    if verdict.get("effects"):
        return _of_grid(verdict["effects"])
    baseline = verdict["baseline"]
    against = [c for c in verdict["comparisons"] if c["baseline"] == baseline]
    if (verdict["arms"].get(baseline) or {}).get("failed"):
        return f"The baseline, {short(baseline)}, could not be trained, so nothing can be compared with it."
    if not against and set(verdict["arms"]) - {baseline, LINEAR}:
        return f"None of the other arms could be trained, so nothing can be compared with {short(baseline)}."
    against = against or verdict["comparisons"]
    if not against:
        return "There is nothing to compare: the study has one arm."
    if len(against) == 1 and against[0].get("sentence"):
        return str(against[0]["sentence"])
    return f"Against {short(baseline)}: {_called([(short(c['arm']), c) for c in against])}."


def _of_grid(effects: Sequence[JSON]) -> str:
    """What each choice did by itself, and which are known to depend on each other."""
    alone = [(_changes(effect)[0], effect) for effect in effects if len(effect["change"]) == 1]
    together = [_changes(effect) for effect in effects if len(effect["change"]) > 1 and effect["verdict"] in CALLED]
    said = [_called(alone), *(f"{listed(changes, _WHOLE)} depend on each other" for changes in together)]
    return f"Over the whole grid: {'; '.join(said)}."


def _changes(effect: JSON) -> list[str]:
    return in_words({short(factor): [*map(short, levels)] for factor, levels in effect["change"].items()})


def _called(found: Sequence[tuple[str, JSON]]) -> str:
    """Which helped, which hurt, and of which nothing is known; those by number, if they are many."""
    said = []
    for word in CALLED:
        names = [f"{name} ({signed(c.get('delta'))})" for name, c in found if c.get("verdict") == word]
        said += [f"{', '.join(names)} {word}"] if names else []
    unknown = [name for name, c in found if c.get("verdict") not in CALLED]
    if len(unknown) > _NAMED:
        said.append(f"no evidence for {'the other' if said else 'any of'} {len(unknown)}")
    elif unknown:
        said.append(f"no evidence for {listed(unknown, _WHOLE)}")
    return "; ".join(said)


def cautions(run: Run) -> list[str]:
    """What a reader must know before repeating the headline."""
    verdict = run.verdict
    said = []
    if run.manifest.get("status") not in (None, "finished"):
        said.append(f"The run is marked '{run.manifest['status']}': these numbers may be those of an earlier one.")
    if verdict["split"] != "test":
        said.append(
            f"There is no test split. All scores are from {verdict['split']}, by which training chose its best "
            "weights: they flatter every arm."
        )
    if len(verdict["seeds"]) == 1:
        said.append("One seed: how much chance in training moves a score is unknown. Intervals speak of rows alone.")
    if len(verdict.get("looks") or ()) > 1:
        said.append(
            f"Seeds were added until the questions were settled; results were looked at {len(verdict['looks'])} times. "
            "Intervals and p-values allow for that."
        )
    failed = [name for name, arm in verdict["arms"].items() if arm.get("failed")]
    if failed:
        said.append(f"Not every arm could be trained: {listed(failed)}. The reason stands with the scores.")
    return [*said, *_budget_cautions(run), *_rival_cautions(verdict)]


def _budget_cautions(run: Run) -> list[str]:
    """Arms that were given more training than others may be better for that alone."""
    planned = {
        name: number((about.get("budget") or {}).get("updates"))
        for name, about in (run.manifest.get("arms") or {}).items()
    }
    known = {name: updates for name, updates in planned.items() if updates is not None}
    if len(set(known.values())) < 2:
        return []
    least, most = min(known, key=known.__getitem__), max(known, key=known.__getitem__)
    return [
        f"The arms have unequal budgets, from {count(known[least])} updates ({short(least)}) to {count(known[most])} "
        f"({short(most)}): longer training alone may make a difference."
    ]


def _rival_cautions(verdict: JSON) -> list[str]:
    """A gain over the baseline says little where a linear model or random documents do as well."""
    baseline, found = verdict["baseline"], verdict["comparisons"]
    helped = {c["arm"] for c in found if c["baseline"] == baseline and c.get("verdict") == "helped"}
    said = [
        f"{short(c['arm'])} helped, but there is no evidence that it is better than {short(c['baseline'])}: what it "
        "was given need not have been chosen with care."
        for c in found
        if c["arm"] in helped and c["baseline"] not in (baseline, LINEAR) and c.get("verdict") != "helped"
    ]
    linear = [c for c in found if c["baseline"] == LINEAR != baseline]
    worse = [c["arm"] for c in linear if c.get("verdict") == "hurt"]
    if linear and not any(c.get("verdict") == "helped" for c in linear):
        said.append("No arm is shown to do better than a linear model of words, which costs a fraction.")
    if worse:
        said.append(f"A linear model of words does better than {listed(worse)}.")
    return said


def groups(run: Run) -> list[Group]:
    """The comparisons by what they are with: the baseline first, the linear model last."""
    baseline, found = run.verdict["baseline"], run.verdict["comparisons"]
    rivals = sorted(dict.fromkeys(c["baseline"] for c in found), key=lambda r: (r != baseline, r == LINEAR))
    effects = tuple(_effect(effect) for effect in run.verdict.get("effects") or ())
    factors = [Group("What does each choice do by itself? Over the whole grid", effects)] if effects else []
    return factors + [
        Group(
            _question(rival, baseline),
            tuple(_comparison(c, rival == LINEAR) for c in found if c["baseline"] == rival),
        )
        for rival in rivals
    ]


def _question(rival: str, baseline: str) -> str:
    if rival == baseline:
        return f"Did it help? Against the baseline, {short(rival)}"
    if rival == LINEAR:
        return "Is an encoder worth it? Against a linear model of words"
    return f"Did the choice matter? Against {short(rival)}"


def _effect(effect: JSON) -> Comparison:
    changes = _changes(effect)
    return _told(effect, " × ".join(changes), "", TOGETHER if len(changes) > 1 else {})


def _comparison(c: JSON, linear: bool) -> Comparison:
    return _told(c, c["arm"], c["baseline"], AGAINST_LINEAR if linear else {})


def _told(c: JSON, arm: str, baseline: str, words: Mapping[str, str]) -> Comparison:
    verdict = str(c.get("verdict") or "no evidence")
    needed = [seeds for size, seeds in (c.get("seeds_needed") or {}).items() if size.isdecimal()]
    return Comparison(
        arm=arm,
        baseline=baseline,
        verdict=verdict,
        said=words.get(verdict, verdict),
        symbol=SYMBOLS.get(verdict, "○"),
        delta=number(c.get("delta")),
        low=number(c.get("low")),
        high=number(c.get("high")),
        p=number(c.get("p_holm")),
        detectable=number(c.get("smallest_detectable")),
        seeds=" / ".join("–" if seeds is None else str(seeds) for seeds in needed),
    )
