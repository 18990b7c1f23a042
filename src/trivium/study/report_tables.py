"""From a run folder's content to the rows of the report: what is shown, in which order, and what is left out.

What is the same in HTML and in Markdown is decided here, once. How it looks is the templates' business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trivium.core import JSON
from trivium.study.report_hiding import Hiding, hiding_rows
from trivium.study.report_run import Run
from trivium.study.report_text import (
    NOTHING,
    count,
    duration,
    number,
    operations,
    plural,
    points,
    short,
    signed,
    spread,
)
from trivium.study.report_verdict import LINEAR

MOST_LABELS = 30
MOST_CONFUSED = 15
MOST_SOURCES = 12
MOST_SETTINGS = 8
LABELS = {  # what is counted: what the labels are, and one of them
    "rows": ("Labels", "label"),
    "entities": ("Types of entities", "type"),
    "words": ("Tags", "tag"),
}


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
    flops: str
    seconds: str
    failed: str | None


@dataclass(frozen=True)
class LabelTable:
    """F1 of each label: rows of a label, its support, and per arm its F1 and the difference from the baseline's.

    What a label is and what its support counts differ: rows of a label, entities of a type, words with a tag.
    """

    title: str
    noun: str
    counted: str
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
    """Documents that were chosen together.

    Attributes:
        who: By whom they are read.
        counts: What was left out, and how much is left.
        sources: How many are from each source, and that as a share of the largest source.
        nearness: KL reduction: how much nearer to the task they are than the corpus is, in nats for each n-gram.
        examples: The best, one from the middle and the last: the best alone would flatter.
        more: Others, best first.
    """

    who: str
    counts: Mapping[str, int]
    sources: tuple[tuple[str, int, float], ...]
    nearness: float | None
    examples: tuple[JSON, ...]
    more: tuple[JSON, ...]


@dataclass(frozen=True)
class Origin:
    """What a result depends on, in lines of name and value, and the notes that were said aloud."""

    parts: tuple[tuple[str, str], ...]
    fingerprints: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def arm_rows(run: Run) -> list[ArmRow]:
    """A row for each arm, as the study file orders them."""
    return [_arm_row(run, name, arm) for name, arm in run.verdict["arms"].items()]


def _arm_row(run: Run, name: str, arm: JSON) -> ArmRow:
    seeds, split = run.verdict["seeds"], run.verdict["split"]
    about = (run.manifest.get("arms") or {}).get(name) or {}
    scores = list(arm.get("per_seed") or [])
    of_seeds = scores * len(seeds) if len(scores) == 1 else scores  # what knows no seed is the same with all
    return ArmRow(
        name=name,
        role="baseline" if name == run.verdict["baseline"] else "reference" if name == LINEAR else "",
        reads="words of the task" if name == LINEAR else _reads(about),
        hides=_hides(about),
        stages=" → ".join(map(_stage, about.get("stages") or [])) or NOTHING,
        score=spread(arm.get("mean"), None if len(scores) < 2 else arm.get("sd")),
        per_seed=tuple(map(points, of_seeds or [None] * len(seeds))),
        dev=_over_seeds(run, name, "dev", run.verdict["metric"]) if split != "dev" else NOTHING,
        others={metric: _over_seeds(run, name, split, metric) for metric in other_metrics(run)},
        updates=_spent(arm.get("updates"), (about.get("budget") or {}).get("updates")),
        tokens=count(arm.get("tokens") or None),
        flops=operations(arm.get("flops") or None),
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
    read = [] if selector["kind"] == "none" else [f"documents: {_settings(selector)}"]
    beside = [f"beside the task: {_settings(about['beside'])}"] if about.get("beside") else []
    return "; ".join([*read, *beside]) or "the task alone"


def _hides(about: JSON) -> str:
    """The masker, where a stage uses it."""
    masks = any(
        {"documents", "texts"} & {*(s.get("mix") or {})} or s.get("mlm_weight") for s in about.get("stages") or []
    )
    return _settings(about["masker"]) if masks and about.get("masker") else NOTHING


def _settings(options: JSON) -> str:
    rest = [f"{key} {_value(value)}" for key, value in options.items() if key != "kind" and value is not None]
    if len(rest) > MOST_SETTINGS:
        rest = [*rest[:MOST_SETTINGS], f"{len(rest) - MOST_SETTINGS} more in config.yaml"]
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
    """F1 per label, mean over seeds, for the labels with the most rows; none where there are no labels."""
    split, baseline = run.verdict["split"], run.verdict["baseline"]
    recorded = {arm: [line.get("per_label") or {} for line in _of(run, arm, split)] for arm in run.verdict["arms"]}
    found = {arm: lines for arm, lines in recorded.items() if any(lines)}
    support = {
        label: number(about.get("support")) or 0 for lines in found.values() for label, about in lines[0].items()
    }
    if not support:
        return None
    counted = next((str(line["counted"]) for line in run.scores if line.get("counted") in LABELS), "rows")

    def f1(arm: str, label: str) -> float | None:
        return _mean([line.get(label, {}).get("f1") for line in found.get(arm, [])])

    def cell(arm: str, label: str) -> tuple[str, str]:
        mine, base = f1(arm, label), f1(baseline, label)
        return points(mine), "" if mine is None or base is None or arm == baseline else signed(mine - base)

    kept = set(sorted(support, key=lambda label: -support[label])[:MOST_LABELS])
    rows = [
        (label, count(support[label]), tuple(cell(arm, label) for arm in found)) for label in support if label in kept
    ]
    return LabelTable(*LABELS[counted], counted, tuple(found), tuple(rows), len(support) - len(kept))


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
    examples = about.get("examples") or [] if show else []
    first = {0, len(examples) // 2, len(examples) - 1}
    return Choice(
        who="; ".join(who),
        counts=about.get("counts") or {},
        sources=tuple((source, n, n / most) for source, n in sources),
        nearness=number(about.get("kl_reduction")),
        examples=tuple(e for i, e in enumerate(examples) if i in first),
        more=tuple(e for i, e in enumerate(examples) if i not in first),
    )


def hidings(run: Run) -> Hiding | None:
    """What the arms hid; none where nobody looked, since all hide at random."""
    return hiding_rows(run.hiding, (run.manifest.get("hiding") or {}).get("overlap") or [])


def origin_of(run: Run) -> Origin:
    """Where the result came from, as far as the manifest says."""
    manifest = run.manifest
    hardware = manifest.get("hardware") or {}
    memory = number(hardware.get("memory_gb"))
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
