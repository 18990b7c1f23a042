"""What a finished run left in its folder, read once for the report.

Only ``verdict.json`` must be there. Whatever else is missing or damaged becomes a sentence in ``problems``, and the
report says it in its place.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trivium.core import JSON
from trivium.errors import ArtifactError
from trivium.study.report_text import number

Curve = list[tuple[int, float]]
Curves = Mapping[str, Mapping[int, Curve]]  # arm, seed


@dataclass(frozen=True)
class Run:
    """A run folder's content.

    Attributes:
        verdict: ``verdict.json``.
        manifest: ``manifest.json``; empty if there is none.
        scores: The lines of ``scores.jsonl``.
        looks: Dev metric by update.
        losses: Masked-language-model loss by update.
        examples: ``examples.json`` of each choice of documents, by artifact folder.
        config: ``config.yaml`` as it lies there; empty if there is none.
        problems: What is missing or could not be read.
    """

    verdict: JSON
    manifest: JSON
    scores: tuple[JSON, ...]
    looks: Curves
    losses: Curves
    examples: Mapping[str, JSON]
    config: str
    problems: tuple[str, ...]


def read_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        ArtifactError: there is no readable verdict in it.
    """
    problems: list[str] = []
    manifest = _object(folder / "manifest.json", problems)
    looks, losses = _curves(_lines(folder / "events.jsonl", problems))
    config = folder / "config.yaml"
    if not config.is_file():
        problems.append("config.yaml is missing.")
    examples = {
        name: _object(folder / "artifacts" / name / "examples.json", problems, f"artifacts/{name}/examples.json")
        for name in sorted(_document_folders(manifest))
    }
    return Run(
        verdict=_verdict(folder),
        manifest=manifest,
        scores=tuple(_lines(folder / "scores.jsonl", problems)),
        looks=looks,
        losses=losses,
        examples=examples,
        config=config.read_text(encoding="utf-8", errors="replace") if config.is_file() else "",
        problems=tuple(problems),
    )


def _verdict(folder: Path) -> JSON:
    path = folder / "verdict.json"
    try:
        verdict = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in ("study", "task", "metric", "split", "baseline", "seeds", "arms") if key not in verdict]
        found = f"one without {', '.join(missing)}" if missing else None
    except (OSError, ValueError, TypeError) as error:
        found = str(error)
    if found:
        raise ArtifactError(
            f"{path}: expected the verdict of a finished run, found {found}. "
            "Run the study again: finished parts are reused, and the verdict is written at its end."
        )
    return verdict


def _object(path: Path, problems: list[str], called: str = "") -> JSON:
    called = called or path.name
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        problems.append(f"{called} is missing.")
        return {}
    except (OSError, ValueError) as error:
        problems.append(f"{called} could not be read: {error}.")
        return {}
    return value


def _lines(path: Path, problems: list[str]) -> Iterator[JSON]:
    """The objects of a log; a line that a crash cut short is counted, not fatal."""
    torn = 0
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    value = json.loads(line)
                except ValueError:
                    torn += bool(line.strip())
                    continue
                if isinstance(value, dict):
                    yield value
    except FileNotFoundError:
        problems.append(f"{path.name} is missing.")
    if torn:
        problems.append(f"{path.name}: {torn} lines could not be read and were passed over.")


def _curves(events: Iterator[JSON]) -> tuple[Curves, Curves]:
    """Looks at dev and MLM losses; an update that was run twice, after a resume, counts as it was the last time."""
    fields = {"look": "value", "loss": "mlm"}
    found: dict[str, dict[str, dict[int, dict[int, float]]]] = {"look": {}, "loss": {}}
    for event in events:
        what = event.get("event")
        value = number(event.get(fields[what])) if what in fields else None
        if value is not None:
            found[what].setdefault(event["arm"], {}).setdefault(event["seed"], {})[event["update"]] = value
    looks, losses = (
        {arm: {seed: sorted(curve.items()) for seed, curve in sorted(seeds.items())} for arm, seeds in arms.items()}
        for arms in (found["look"], found["loss"])
    )
    return looks, losses


def _document_folders(manifest: JSON) -> set[str]:
    arms = manifest.get("arms", {}).values()
    return {name for arm in arms for name in (arm.get("documents") or {}).values() if name}
