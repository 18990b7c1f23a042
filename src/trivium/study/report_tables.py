"""From a run folder's content to the rows of the report: what is shown, in which order, and what is left out.

What is the same in HTML and in Markdown is decided here, once. How it looks is the templates' business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trivium.core import JSON
from trivium.study.report_run import Run
from trivium.study.report_text import (
    NOTHING,
    count,
    duration,
    listed,
    metric_name,
    number,
    plural,
    points,
    short,
    signed,
    spread,
)

LINEAR = "linear"  # the study's own reference arm; see ``trivium.study.linear``
MOST_LABELS = 30
MOST_CONFUSED = 15
MOST_SOURCES = 12
SYMBOLS = {"helped": "▲", "hurt": "▼", "no evidence": "○"}
AGAINST_LINEAR = {"helped": "better", "hurt": "worse"}  # a linear model is no step of the arm: nothing helped or hurt


@dataclass(frozen=True)
class Comparison:
    """One arm against another; numbers are fractions, none where there is no number."""

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


@dataclass(frozen=True)
class Group:
    """All arms that are compared with the same one, and what is asked by it."""

    question: str
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class ArmRow:
    """One arm: what it is, how it scored, what it cost."""

    name: str
    role: str
    reads: str
    hides: str
    stages: str
    score: str
    per_seed: tuple[str, ...]
    dev: str
    others: Mapping[str, str]
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
    """Documents that were chosen together, by whom they are read, and each source's share of the largest."""

    who: str
    counts: Mapping[str, int]
    sources: tuple[tuple[str, int, float], ...]
    examples: tuple[JSON, ...]


@dataclass(frozen=True)
class Origin:
    """What a result depends on, in lines of name and value, and the notes that were said aloud."""

    parts: tuple[tuple[str, str], ...]
    fingerprints: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


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


def headline(run: Run) -> str:
    """The verdict in a sentence."""
    verdict, baseline = run.verdict, run.verdict["baseline"]
    if (verdict["arms"].get(baseline) or {}).get("failed"):
        return f"The baseline, {short(baseline)}, could not be trained, so nothing can be compared with it."
    against = [c for c in verdict["comparisons"] if c["baseline"] == baseline] or verdict["comparisons"]
    if not against:
        return "There is nothing to compare: only one arm could be trained."
    if len(against) == 1 and against[0].get("sentence"):
        return str(against[0]["sentence"])
    said = []
    for word in ("helped", "hurt"):
        arms = [f"{short(c['arm'])} ({signed(c.get('delta'))})" for c in against if c.get("verdict") == word]
        said += [f"{', '.join(arms)} {word}"] if arms else []
    open_ones = [c["arm"] for c in against if c.get("verdict") not in ("helped", "hurt")]
    said += [f"no evidence for {listed(open_ones)}"] if open_ones else []
    return f"Against {short(against[0]['baseline'])}: {'; '.join(said)}."


def cautions(run: Run) -> list[str]:
    """What a reader must know before repeating the headline."""
    verdict = run.verdict
    said = []
    if run.manifest.get("status") not in (None, "finished"):
        said.append(f"The run is marked '{run.manifest['status']}': these numbers may be those of an earlier one.")
    if verdict["split"] != "test":
        said.append(
            f"There is no test split. All scores are from {verdict['split']}, by which training chose its best weights, "
            "and flatter every arm."
        )
    if len(verdict["seeds"]) == 1:
        said.append("One seed: how much chance in training moves a score is unknown. Intervals speak of rows alone.")
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
    if worse:
        said.append(f"A linear model of word counts does better than {listed(worse)}, at a fraction of the cost.")
    elif linear and not any(c.get("verdict") == "helped" for c in linear):
        said.append("No arm is shown to do better than a linear model of word counts, at a fraction of the cost.")
    return said


def groups(run: Run) -> list[Group]:
    """The comparisons by what they are with: the baseline first, the linear model last."""
    baseline, found = run.verdict["baseline"], run.verdict["comparisons"]
    rivals = sorted(dict.fromkeys(c["baseline"] for c in found), key=lambda r: (r != baseline, r == LINEAR))
    return [
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
        return "Is an encoder worth it? Against a linear model of word counts"
    return f"Did the choice matter? Against {short(rival)}"


def _comparison(c: JSON, linear: bool) -> Comparison:
    verdict = str(c.get("verdict") or "no evidence")
    return Comparison(
        arm=c["arm"],
        baseline=c["baseline"],
        verdict=verdict,
        said=AGAINST_LINEAR.get(verdict, verdict) if linear else verdict,
        symbol=SYMBOLS.get(verdict, "○"),
        delta=number(c.get("delta")),
        low=number(c.get("low")),
        high=number(c.get("high")),
        p=number(c.get("p_holm")),
        detectable=number(c.get("smallest_detectable")),
    )


def arm_rows(run: Run) -> list[ArmRow]:
    """A row for each arm, as the study file orders them."""
    return [_arm_row(run, name, arm) for name, arm in run.verdict["arms"].items()]


def _arm_row(run: Run, name: str, arm: JSON) -> ArmRow:
    seeds, split = run.verdict["seeds"], run.verdict["split"]
    about = (run.manifest.get("arms") or {}).get(name) or {}
    scores = list(arm.get("per_seed") or [])
    return ArmRow(
        name=name,
        role="baseline" if name == run.verdict["baseline"] else "reference" if name == LINEAR else "",
        reads="word counts of the task" if name == LINEAR else _reads(about),
        hides=_hides(about),
        stages=" → ".join(map(_stage, about.get("stages") or [])) or NOTHING,
        score=spread(arm.get("mean"), None if len(scores) < 2 else arm.get("sd")),
        per_seed=tuple(map(points, scores * len(seeds) if len(scores) == 1 else scores or [None] * len(seeds))),
        dev=_over_seeds(run, name, "dev", run.verdict["metric"]) if split != "dev" else NOTHING,
        others={metric: _over_seeds(run, name, split, metric) for metric in other_metrics(run)},
        updates=_spent(arm.get("updates"), (about.get("budget") or {}).get("updates")),
        tokens=count(arm.get("tokens") or None),
        seconds=duration(arm.get("seconds") or None),
        failed=str(arm["failed"]) if arm.get("failed") else None,
    )


def _spent(updates: JSON, planned: JSON) -> str:
    """Updates that were made, and of how many where fewer sufficed."""
    made, whole = count(updates or None), count(planned or None)
    return made if whole in (made, NOTHING) or made == NOTHING else f"{made} of {whole}"


def _reads(about: JSON) -> str:
    if not about:
        return NOTHING
    selector = about.get("selector") or {"kind": "none"}
    return "the task alone" if selector["kind"] == "none" else f"documents: {_settings(selector)}"


def _hides(about: JSON) -> str:
    """The masker, where a stage uses it."""
    masks = any("documents" in (s.get("mix") or {}) or s.get("mlm_weight") for s in about.get("stages") or [])
    return _settings(about["masker"]) if masks and about.get("masker") else NOTHING


def _settings(options: JSON) -> str:
    rest = [f"{key} {_value(value)}" for key, value in options.items() if key != "kind" and value is not None]
    return f"{options['kind']} ({', '.join(rest)})" if rest else str(options["kind"])


def _value(value: JSON) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _stage(stage: JSON) -> str:
    """A stage's name, its updates, and the mix of its streams where there is one."""
    mix = stage.get("mix") or {}
    streams = " : ".join(f"{stream} {n}" if len(mix) > 1 else stream for stream, n in mix.items())
    updates = number(stage.get("updates"))
    said = [f"{updates:,.0f} updates" if updates else "", "" if streams == "task" else streams]
    return f"{stage['name']} ({', '.join(filter(None, said))})" if any(said) else str(stage["name"])


def cost_notes(run: Run) -> list[str]:
    """What the whole run took, and that equal updates are not equal work, where arms read very different amounts."""
    tokens = {name: arm["tokens"] for name, arm in run.verdict["arms"].items() if number(arm.get("tokens"))}
    said = []
    if tokens and max(tokens.values()) > 2 * min(tokens.values()):
        least, most = min(tokens, key=tokens.__getitem__), max(tokens, key=tokens.__getitem__)
        times = f"{tokens[most] / tokens[least]:.0f} times"
        said.append(f"Equal updates are not equal work: {short(most)} read {times} the tokens of {short(least)}.")
    if number(run.manifest.get("seconds")):
        said.append(f"The whole run took {duration(run.manifest['seconds'])}.")
    return said


def other_metrics(run: Run) -> list[str]:
    """Metrics that were measured beside the verdict's, but for those that are another by a second name."""
    values = [line.get("values") or {} for line in run.scores]
    names = dict.fromkeys([run.verdict["metric"], *(metric for found in values for metric in found)])
    distinct = {tuple(found.get(name) for found in values): name for name in reversed(names)}
    return [name for name in names if name in distinct.values() and name != run.verdict["metric"]]


def _of(run: Run, arm: str, split: str) -> list[JSON]:
    return [line for line in run.scores if line["arm"] == arm and line.get("split") == split]


def _mean(values: Sequence[JSON]) -> float | None:
    known = [v for v in map(number, values) if v is not None]
    return float(np.mean(known)) if known else None


def _over_seeds(run: Run, arm: str, split: str, metric: str) -> str:
    values = [number((line.get("values") or {}).get(metric)) for line in _of(run, arm, split)]
    known = [v for v in values if v is not None]
    return spread(_mean(known), float(np.std(known, ddof=1)) if len(known) > 1 else None)


def label_table(run: Run) -> LabelTable | None:
    """F1 per label, mean over seeds, for the labels with the most rows; none if nothing was recorded."""
    split, baseline = run.verdict["split"], run.verdict["baseline"]
    found = {arm: [line["per_label"] for line in _of(run, arm, split) if line.get("per_label")] for arm in _arms(run)}
    support = {
        label: int(about.get("support") or 0)
        for lines in found.values()
        for line in lines
        for label, about in line.items()
    }
    if not support:
        return None
    kept = set(sorted(support, key=lambda label: -support[label])[:MOST_LABELS])
    f1 = {
        arm: {label: _mean([line.get(label, {}).get("f1") for line in lines]) for label in kept}
        for arm, lines in found.items()
        if lines
    }
    return LabelTable(
        tuple(f1),
        tuple(
            (label, count(support[label]), tuple(_label_cell(f1, arm, baseline, label) for arm in f1))
            for label in support
            if label in kept
        ),
        len(support) - len(kept),
    )


def _label_cell(f1: Mapping[str, Mapping[str, float | None]], arm: str, baseline: str, label: str) -> tuple[str, str]:
    mine, base = f1[arm][label], f1.get(baseline, {}).get(label)
    return points(mine), "" if mine is None or base is None or arm == baseline else signed(mine - base)


def _arms(run: Run) -> list[str]:
    return list(run.verdict["arms"])


def confusions(run: Run) -> list[Confusion]:
    """The baseline's confusion and that of the best other trained arm."""
    baseline = run.verdict["baseline"]
    means = {arm: number(about.get("mean")) for arm, about in run.verdict["arms"].items()}
    rivals = {arm: mean for arm, mean in means.items() if mean is not None and arm not in (baseline, LINEAR)}
    best = [max(rivals, key=rivals.__getitem__)] if rivals else []
    found = (_confusion(run, arm) for arm in (baseline, *best))
    return [confusion for confusion in found if confusion is not None]


def _confusion(run: Run, arm: str) -> Confusion | None:
    lines = [line for line in _of(run, arm, run.verdict["split"]) if line.get("confusion") and line.get("per_label")]
    if not lines:
        return None
    labels = list(lines[0]["per_label"])
    counts = np.sum([line["confusion"] for line in lines], axis=0, dtype=np.float64)
    frequent = np.sort(np.argsort(-counts.sum(1), kind="stable")[:MOST_CONFUSED])
    shares = (counts / np.maximum(counts.sum(1, keepdims=True), 1))[np.ix_(frequent, frequent)]
    return Confusion(
        arm,
        tuple(labels[i] for i in frequent),
        tuple(tuple(map(float, row)) for row in shares),
        len(labels) - len(frequent),
    )


def choices(run: Run) -> list[Choice]:
    """Each choice of documents once, with all who read it; examples only for the first seed of each arm."""
    readers: dict[str, dict[str, list[str]]] = {}
    first = set()
    for arm, about in (run.manifest.get("arms") or {}).items():
        folders = {seed: folder for seed, folder in (about.get("documents") or {}).items() if folder}
        first.update(list(folders.values())[:1])
        for seed, folder in folders.items():
            readers.setdefault(folder, {}).setdefault(arm, []).append(seed)
    made = [
        _choice(run.examples.get(folder) or {}, arms, len(run.verdict["seeds"]), show=folder in first)
        for folder, arms in readers.items()
    ]
    return sorted(made, key=lambda choice: not any(e.get("terms") for e in choice.examples))  # reasons first


def _choice(about: JSON, arms: Mapping[str, Sequence[str]], seeds: int, *, show: bool) -> Choice:
    who = [
        short(arm) if len(mine) == seeds else f"{short(arm)}, seed{'s' * (len(mine) > 1)} {', '.join(mine)}"
        for arm, mine in arms.items()
    ]
    sources = sorted((about.get("sources") or {}).items(), key=lambda item: (-item[1], item[0]))
    if len(sources) > MOST_SOURCES:
        rest = sources[MOST_SOURCES - 1 :]
        sources = [*sources[: MOST_SOURCES - 1], (f"{len(rest)} others", sum(n for _, n in rest))]
    most = max((n for _, n in sources), default=1) or 1
    return Choice(
        who="; ".join(who),
        counts=about.get("counts") or {},
        sources=tuple((source, n, n / most) for source, n in sources),
        examples=tuple(about.get("examples") or ()) if show else (),
    )


def origin_of(run: Run) -> Origin:
    """Where the result came from, as far as the manifest says."""
    manifest = run.manifest
    hardware, memory = manifest.get("hardware") or {}, number((manifest.get("hardware") or {}).get("memory_gb"))
    machine = [
        hardware.get("cpu"),
        plural(hardware["cores"], "core") if hardware.get("cores") else None,
        f"{memory:.0f} GB memory" if memory else None,
        hardware.get("gpu") or ("no GPU" if hardware else None),
    ]
    revision = f" (revision {manifest['revision']})" if manifest.get("revision") else ""
    parts = {
        "trivium": f"{manifest.get('trivium') or ''}{revision}",
        "Python": manifest.get("python"),
        "packages": ", ".join(
            f"{name} {version}" for name, version in sorted((manifest.get("packages") or {}).items())
        ),
        "machine": ", ".join(str(part) for part in machine if part),
        "finished": str(manifest.get("finished") or "").replace("T", " ").replace("+00:00", " UTC"),
    }
    return Origin(
        parts=tuple((name, str(value)) for name, value in parts.items() if value),
        fingerprints=tuple((name, str(value)) for name, value in (manifest.get("inputs") or {}).items() if value),
        notes=tuple(map(str, manifest.get("notes") or ())),
    )
