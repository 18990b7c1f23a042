"""From a run folder's content to the rows of the report: what is shown, in which order, and what is left out.

Numbers become text here, once, for HTML and Markdown alike. How they look is the templates' business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from trivium.core import JSON
from trivium.study.report_run import Run
from trivium.study.report_text import (
    NOTHING,
    count,
    duration,
    interval,
    metric_name,
    number,
    points,
    probability,
    short,
    signed,
    spread,
)

LINEAR = "linear"  # the study's own reference arm; see ``trivium.study.linear``
MOST_LABELS = 30
MOST_CONFUSED = 15
SYMBOLS = {"helped": "▲", "hurt": "▼", "no evidence": "○"}


@dataclass(frozen=True)
class Comparison:
    """One arm against another, in words and points."""

    arm: str
    baseline: str
    verdict: str
    symbol: str
    style: str
    delta: str
    interval: str
    p: str
    detectable: str
    sentence: str
    explanation: str


@dataclass(frozen=True)
class Group:
    """All arms that are compared with the same one, and what is asked by it."""

    question: str
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class ArmRow:
    """One arm: what it is, how it scored, what it cost. ``shared`` is a score that holds for every seed."""

    name: str
    role: str
    reads: str
    hides: str
    stages: str
    score: str
    per_seed: tuple[str, ...]
    shared: str | None
    dev: str
    others: Mapping[str, str]
    planned: str
    updates: str
    tokens: str
    seconds: str
    failed: str | None


@dataclass(frozen=True)
class LabelTable:
    """F1 of each label: rows of a label, its support, and per arm its F1 and the difference from the baseline's."""

    arms: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...]
    left_out: int


@dataclass(frozen=True)
class Confusion:
    """Of the rows of a label, in which share each label was predicted, over all seeds."""

    arm: str
    labels: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]
    left_out: int


@dataclass(frozen=True)
class Choice:
    """The documents that an arm reads; ``examples`` only where they are shown."""

    who: tuple[str, ...]
    folder: str
    counts: Mapping[str, int]
    sources: tuple[tuple[str, int, float], ...]
    examples: tuple[JSON, ...] = field(default=(), repr=False)


def groups(run: Run) -> list[Group]:
    """The comparisons, those with the baseline first."""
    verdict, found = run.verdict, run.verdict.get("comparisons") or []
    rivals = dict.fromkeys([verdict["baseline"], *(c["baseline"] for c in found)])
    ordered = sorted(rivals, key=lambda rival: rival == LINEAR and rival != verdict["baseline"])
    made = [
        Group(
            _question(rival, verdict["baseline"]),
            tuple(_comparison(c, len(found)) for c in found if c["baseline"] == rival),
        )
        for rival in ordered
    ]
    return [group for group in made if group.comparisons]


def _question(rival: str, baseline: str) -> str:
    if rival == baseline:
        return f"Did it help? Against the baseline, {short(rival)}"
    if rival == LINEAR:
        return "Is an encoder worth it? Against a linear model of word counts"
    return f"Did the choice matter? Against {short(rival)}"


def _comparison(c: JSON, questions: int) -> Comparison:
    verdict = c.get("verdict") or "no evidence"
    sentence = c.get("sentence") or f"{c['arm']} against {c['baseline']}: {verdict}"
    return Comparison(
        arm=c["arm"],
        baseline=c["baseline"],
        verdict=verdict,
        symbol=SYMBOLS.get(verdict, "○"),
        style=verdict.split()[0] if verdict in SYMBOLS else "no",
        delta=signed(c.get("delta")),
        interval=interval(c.get("low"), c.get("high")),
        p=probability(c.get("p_holm")),
        detectable=points(c.get("smallest_detectable")),
        sentence=sentence,
        explanation=_explanation(verdict, c, questions),
    )


def _explanation(verdict: str, c: JSON, questions: int) -> str:
    low, high = number(c.get("low")), number(c.get("high"))
    if low is None or high is None:
        return "There is no interval, so nothing can be said."
    if verdict == "helped":
        return "Even the low end of the interval is a gain."
    if verdict == "hurt":
        return "Even the high end of the interval is a loss."
    if low > 0 or high < 0:
        return f"The interval leaves out zero, but among {questions} comparisons that may be luck."
    seen = points(c.get("smallest_detectable"))
    bound = f" An effect below about {seen} points would go unseen in a study of this size." if seen != NOTHING else ""
    return f"The interval contains zero: it may help, hurt, or do nothing.{bound}"


def headline(run: Run) -> str:
    """The verdict in a sentence."""
    verdict = run.verdict
    if verdict.get("headline"):
        return str(verdict["headline"])
    against = [c for c in verdict.get("comparisons") or [] if c["baseline"] == verdict["baseline"]]
    if len(against) == 1:
        return _comparison(against[0], 1).sentence
    said = []
    for word in ("helped", "hurt"):
        arms = [f"{short(c['arm'])} ({signed(c.get('delta'))})" for c in against if c.get("verdict") == word]
        said += [f"{', '.join(arms)} {word}"] if arms else []
    open_ones = [short(c["arm"]) for c in against if c.get("verdict") not in ("helped", "hurt")]
    said += [f"no evidence for {', '.join(open_ones)}"] if open_ones else []
    return f"Against {short(verdict['baseline'])}: {'; '.join(said)}." if said else "There is nothing to compare."


def cautions(run: Run) -> list[str]:
    """What a reader must know before repeating the headline."""
    verdict, said = run.verdict, []
    if verdict["split"] != "test":
        said.append(
            f"There is no test split: all scores are from {verdict['split']}, which training also looked at to keep its "
            "best weights. They flatter every arm."
        )
    if len(verdict["seeds"]) == 1:
        said.append("One seed: how much chance in training moves the score is unknown. Intervals speak of rows alone.")
    failed = [short(name) for name, arm in verdict["arms"].items() if arm.get("failed")]
    if failed:
        said.append(f"Not every arm could be trained: {', '.join(failed)}. The reason stands with the scores.")
    against = [c for c in verdict.get("comparisons") or [] if c["baseline"] == LINEAR != verdict["baseline"]]
    better = [short(c["arm"]) for c in against if c.get("verdict") == "hurt"]
    if better:
        said.append(f"A linear model of word counts does better than {', '.join(better)}, at a fraction of the cost.")
    elif against and not any(c.get("verdict") == "helped" for c in against):
        said.append("No arm is shown to do better than a linear model of word counts.")
    return said


def arm_rows(run: Run) -> list[ArmRow]:
    """A row for each arm, as the study file orders them."""
    return [_arm_row(run, name, arm) for name, arm in run.verdict["arms"].items()]


def _arm_row(run: Run, name: str, arm: JSON) -> ArmRow:
    seeds, about = run.verdict["seeds"], (run.manifest.get("arms") or {}).get(name) or {}
    scores = list(arm.get("per_seed") or [])
    shared = points(scores[0]) if len(scores) == 1 < len(seeds) else None
    role = "baseline" if name == run.verdict["baseline"] else "reference" if name == LINEAR else ""
    return ArmRow(
        name=name,
        role=role,
        reads=_reads(name, about),
        hides=_settings(about.get("masker")) if about else NOTHING,
        stages=_stages(about.get("stages") or []),
        score=spread(arm.get("mean"), None if len(scores) < 2 else arm.get("sd")),
        per_seed=tuple(points(s) for s in (scores + [None] * len(seeds))[: len(seeds)]),
        shared=shared,
        dev=_over_seeds(run, name, "dev", run.verdict["metric"]) if run.verdict["split"] != "dev" else NOTHING,
        others={metric: _over_seeds(run, name, run.verdict["split"], metric) for metric in other_metrics(run)},
        planned=count((about.get("budget") or {}).get("updates")),
        updates=count(arm.get("updates") or None),
        tokens=count(arm.get("tokens") or None),
        seconds=duration(arm.get("seconds") or None),
        failed=str(arm["failed"]) if arm.get("failed") else None,
    )


def _reads(name: str, about: JSON) -> str:
    if name == LINEAR and not about:
        return "word counts of the task"
    if about.get("description"):
        return str(about["description"])
    selector = about.get("selector") or {}
    reads = bool(selector) and selector.get("kind") != "none"
    return f"documents: {_settings(selector)}" if reads else "the task alone"


def _settings(options: JSON) -> str:
    if not options:
        return NOTHING
    rest = [f"{key} {value}" for key, value in options.items() if key != "kind" and value is not None]
    return f"{options['kind']} ({', '.join(rest)})" if rest else str(options["kind"])


def _stages(stages: Sequence[JSON]) -> str:
    said = []
    for stage in stages:
        name = stage["name"] if isinstance(stage, dict) else str(stage)
        updates = count(stage.get("updates")) if isinstance(stage, dict) else NOTHING
        said.append(name if updates == NOTHING else f"{name} ({updates})")
    return " → ".join(said) or NOTHING


def other_metrics(run: Run) -> list[str]:
    """Metrics that were measured beside the verdict's."""
    names = dict.fromkeys(metric for line in run.scores for metric in line.get("values") or {})
    return [name for name in names if name != run.verdict["metric"]]


def _of(run: Run, arm: str, split: str) -> list[JSON]:
    return [line for line in run.scores if line["arm"] == arm and line["split"] == split]


def _over_seeds(run: Run, arm: str, split: str, metric: str) -> str:
    values = [number((line.get("values") or {}).get(metric)) for line in _of(run, arm, split)]
    known = [v for v in values if v is not None]
    if not known:
        return NOTHING
    return spread(float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None)


def label_table(run: Run) -> LabelTable | None:
    """F1 per label, mean over seeds, for the labels with the most rows; none if nothing was recorded."""
    split, baseline = run.verdict["split"], run.verdict["baseline"]
    f1: dict[str, dict[str, float]] = {}
    support: dict[str, int] = {}
    for arm in run.verdict["arms"]:
        lines = [line["per_label"] for line in _of(run, arm, split) if line.get("per_label")]
        for label in dict.fromkeys(label for line in lines for label in line):
            of_label = [line[label] for line in lines if label in line]
            f1.setdefault(arm, {})[label] = float(np.mean([found["f1"] for found in of_label]))
            support[label] = of_label[0].get("support") or 0
    if not f1:
        return None
    kept = set(sorted(support, key=lambda label: -support[label])[:MOST_LABELS])
    rows = []
    for label in (label for label in support if label in kept):
        base = f1.get(baseline, {}).get(label)
        cells = []
        for arm, scores in f1.items():
            known = base is not None and label in scores and arm != baseline
            cells.append((points(scores.get(label)), signed(scores[label] - base) if known and base is not None else ""))
        rows.append((label, count(support[label]), tuple(cells)))
    return LabelTable(tuple(f1), tuple(rows), len(support) - len(kept))


def confusions(run: Run) -> list[Confusion]:
    """The baseline's confusion and that of the best other trained arm."""
    arms = run.verdict["arms"]
    rivals = [a for a in arms if a not in (run.verdict["baseline"], LINEAR) and number(arms[a].get("mean")) is not None]
    best = max(rivals, key=lambda arm: float(arms[arm]["mean"]), default=None)
    found = (_confusion(run, arm) for arm in (run.verdict["baseline"], best) if arm is not None)
    return [confusion for confusion in found if confusion is not None]


def _confusion(run: Run, arm: str) -> Confusion | None:
    lines = [line for line in _of(run, arm, run.verdict["split"]) if line.get("confusion") and line.get("per_label")]
    if not lines:
        return None
    labels = list(lines[0]["per_label"])
    counts = np.sum([line["confusion"] for line in lines], axis=0, dtype=np.float64)
    frequent = np.sort(np.argsort(-counts.sum(1), kind="stable")[:MOST_CONFUSED])
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return Confusion(
        arm,
        tuple(labels[i] for i in frequent),
        tuple(tuple(float(shares[i, j]) for j in frequent) for i in frequent),
        len(labels) - len(frequent),
    )


def choices(run: Run) -> list[Choice]:
    """Each choice of documents once, with all the arms and seeds that read it; examples for each arm's first seed."""
    readers: dict[str, dict[str, list[str]]] = {}
    shown: dict[str, str] = {}
    for arm, about in (run.manifest.get("arms") or {}).items():
        for seed, folder in (about.get("documents") or {}).items():
            if folder:
                readers.setdefault(folder, {}).setdefault(arm, []).append(seed)
                shown.setdefault(arm, folder)
    return [
        _choice(run.examples.get(folder) or {}, folder, arms, show=folder in shown.values())
        for folder, arms in readers.items()
    ]


def _choice(about: JSON, folder: str, arms: Mapping[str, Sequence[str]], *, show: bool) -> Choice:
    sources = about.get("sources") or {}
    most = max(sources.values(), default=1) or 1
    return Choice(
        who=tuple(f"{short(arm)}, seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}" for arm, seeds in arms.items()),
        folder=folder,
        counts=about.get("counts") or {},
        sources=tuple((s, n, n / most) for s, n in sorted(sources.items(), key=lambda item: (-item[1], item[0]))),
        examples=tuple(about.get("examples") or ()) if show else (),
    )


def title_of(run: Run) -> str:
    """What was measured, in a line."""
    seeds = len(run.verdict["seeds"])
    return (
        f"Task {run.verdict['task']} · {metric_name(run.verdict['metric'])} on {run.verdict['split']} · "
        f"{seeds} seed{'s' * (seeds != 1)} · baseline {short(run.verdict['baseline'])}"
    )
