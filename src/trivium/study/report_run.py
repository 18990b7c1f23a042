"""What a finished run left in its folder, read once for the report.

Only ``verdict.json`` must be there, as the study wrote it. Whatever else is missing or damaged becomes a sentence in
``problems``, and the report says it in its place.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean as mean

import yaml

from trivium.core import JSON
from trivium.errors import ArtifactError
from trivium.store import changed
from trivium.study.report_text import number, plural

RECORDS = ("config.yaml", "manifest.json", "events.jsonl", "scores.jsonl", "verdict.json")
Curve = list[tuple[int, float]]
Curves = Mapping[str, Mapping[int, Curve]]  # arm, seed

_NEEDED = ("study", "task", "metric", "split", "baseline", "seeds", "arms", "comparisons")
_MEASURED = {"look": ("value",), "loss": ("mlm", "task")}  # event: the fields that are drawn over updates


@dataclass(frozen=True)
class Run:
    """A run folder's content.

    Attributes:
        verdict: ``verdict.json``.
        manifest: ``manifest.json``; empty if there is none.
        scores: The lines of ``scores.jsonl``.
        events: The lines of ``events.jsonl``, in the order of updates within an arm and seed.
        curves: What was measured by update: ``value`` (the metric on dev), ``mlm`` and ``task`` (training losses).
        examples: ``examples.json`` of each choice of documents, by artifact folder.
        audits: ``audit.jsonl`` of each: documents that were left out because they hold a dev or test text.
        hiding: ``hiding.json`` of each arm that was looked at while it hides.
        conflicts: Of each arm that asked, and each task it learned beside: how often gradients conflicted with the
            task's, and the mean cosine, over seeds.
        beside: ``beside.json`` of each choice of auxiliary tasks, by artifact folder.
        config: ``config.yaml`` as it lies there; empty if there is none.
        settings: What ``config.yaml`` says.
        problems: What is missing or could not be read.
    """

    verdict: JSON
    manifest: JSON
    scores: tuple[JSON, ...]
    events: tuple[JSON, ...]
    curves: Mapping[str, Curves]
    examples: Mapping[str, JSON]
    audits: Mapping[str, tuple[JSON, ...]]
    hiding: Mapping[str, JSON]
    conflicts: Mapping[str, Mapping[str, tuple[float, float]]]
    beside: Mapping[str, JSON]
    config: str
    settings: JSON
    problems: tuple[str, ...]


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        ArtifactError: there is no readable verdict in it, or not the one that the study wrote.
    """
    problems: list[str] = []
    verdict = read_verdict(folder)
    manifest = _object(folder, "manifest.json", problems)
    config, settings = _config(folder, problems)
    events = sorted(_lines(folder, "events.jsonl", problems), key=lambda event: number(event.get("update")) or 0)
    chosen = dict.fromkeys(
        name for arm in (manifest.get("arms") or {}).values() for name in (arm.get("documents") or {}).values() if name
    )
    return Run(
        verdict=verdict,
        manifest=manifest,
        scores=tuple(_lines(folder, "scores.jsonl", problems)),
        events=tuple(events),
        curves=_curves(events),
        conflicts=_conflicts(events),
        examples={name: _object(folder, f"artifacts/{name}/examples.json", problems) for name in chosen},
        audits={name: tuple(_lines(folder, f"artifacts/{name}/audit.jsonl", problems, "document")) for name in chosen},
        hiding={
            arm: _object(folder, f"artifacts/{name}/hiding.json", problems)
            for arm, name in ((manifest.get("hiding") or {}).get("arms") or {}).items()
        },
        beside={
            name: _object(folder, f"artifacts/{name}/beside.json", problems)
            for arm in (manifest.get("arms") or {}).values()
            for name in (arm.get("auxiliary") or {}).values()
        },
        config=config,
        settings=settings,
        problems=tuple(dict.fromkeys(problems)),
    )


def read_verdict(folder: Path) -> JSON:
    """``verdict.json`` of a run folder.

    Raises:
        ArtifactError: there is none, or none that the study wrote.
    """
    try:
        text = _written(folder / "verdict.json")
        verdict: JSON = json.loads(text)
        missing = [key for key in _NEEDED if key not in verdict]
        found = f"one without {', '.join(missing)}" if missing else None
    except (OSError, ValueError, TypeError) as error:
        found = str(error)
    if found:
        raise ArtifactError(
            f"{folder / 'verdict.json'}: expected the verdict of a finished run, found {found}. "
            "Run the study again: finished parts are reused, and the verdict is written at its end."
        )
    return verdict


def _written(file: Path) -> str:
    """The text of a file, if it is what the study wrote.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it could not be read.
        ValueError: it is not what was written.
    """
    text = file.read_text(encoding="utf-8", errors="replace")
    found = changed(file.parent, file.name)
    if found is not None:
        raise ValueError(f"not what the study wrote ({found})")
    return text


def _text(folder: Path, name: str, problems: list[str]) -> str | None:
    """The text of a record; if it is not there, not readable, or not what was written, that is a problem."""
    try:
        return _written(folder / name)
    except FileNotFoundError:
        problems.append(f"{name} is missing.")
    except (OSError, ValueError) as error:
        problems.append(f"{name} could not be read: {error}.")
    return None


def _object(folder: Path, name: str, problems: list[str]) -> JSON:
    text = _text(folder, name, problems)
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except ValueError as error:
        problems.append(f"{name} could not be read: {error}.")
        return {}
    if not isinstance(value, dict):
        problems.append(f"{name} holds no JSON object.")
        return {}
    return value


def _config(folder: Path, problems: list[str]) -> tuple[str, JSON]:
    text = _text(folder, "config.yaml", problems) or ""
    try:
        settings = yaml.safe_load(text)
    except yaml.YAMLError:
        problems.append("config.yaml could not be read.")
        settings = None
    return text, settings if isinstance(settings, dict) else {}


def _lines(folder: Path, name: str, problems: list[str], key: str = "arm") -> Iterator[JSON]:
    """The objects of a log, known by a key that each has; a line that a crash cut short is counted, not fatal."""
    torn = 0
    for line in filter(str.strip, (_text(folder, name, problems) or "").split("\n")):
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict) and key in value:
            yield value
        else:
            torn += 1
    if torn:
        problems.append(
            f"{name}: {plural(torn, 'line')} could not be read and {'was' if torn == 1 else 'were'} left out."
        )


def _curves(events: Iterable[JSON]) -> dict[str, Curves]:
    """What was measured, in the order of updates; nothing where it is no number."""
    curves: dict[str, dict[str, dict[int, Curve]]] = {"value": {}, "mlm": {}, "task": {}}
    for event in events:
        for name in _MEASURED.get(event.get("event"), ()):
            value = number(event.get(name))
            if value is not None:
                curves[name].setdefault(event["arm"], {}).setdefault(event["seed"], []).append((event["update"], value))
    return {
        name: {arm: {seed: sorted(found) for seed, found in sorted(seeds.items())} for arm, seeds in arms.items()}
        for name, arms in curves.items()
    }


def _conflicts(events: Iterable[JSON]) -> dict[str, dict[str, tuple[float, float]]]:
    """What each stage said last, as a mean over seeds."""
    last = {(e["arm"], e.get("seed"), e.get("stage")): e for e in events if e.get("event") == "conflicts"}
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for (arm, _, _), event in last.items():
        for task, about in (event.get("tasks") or {}).items():
            share, cosine = number(about.get("share")), number(about.get("cosine"))
            if share is not None and cosine is not None:
                found.setdefault(arm, {}).setdefault(task, []).append((share, cosine))
    return {
        arm: {task: (mean(s for s, _ in pairs), mean(c for _, c in pairs)) for task, pairs in tasks.items()}
        for arm, tasks in found.items()
    }
