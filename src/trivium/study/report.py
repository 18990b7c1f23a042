"""The report of a run: one HTML file for a browser, one Markdown file for a terminal.

It only reads what the run left in its folder; nothing is measured or judged here. The HTML file holds its figures and
its style, has no script and asks no server for anything. The same folder gives the same bytes.
"""

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from trivium.core import JSON
from trivium.store import atomic_write
from trivium.study import figures, report_markdown, report_tables, report_text
from trivium.study.figures import Difference, Style
from trivium.study.report_run import Curves, Run, read_run
from trivium.study.report_tables import LINEAR
from trivium.study.report_text import metric_name, number, short


def write_report(run_folder: Path) -> Path:
    """Write ``report.html`` and ``report.md`` of a run.

    Args:
        run_folder: Where ``verdict.json`` lies. Whatever else is missing there, the report says so in its place.

    Returns:
        The path of ``report.html``.

    Raises:
        ArtifactError: the folder has no readable verdict.
    """
    run = read_run(run_folder)
    atomic_write(run_folder / "report.md", report_markdown.markdown(run))
    page = run_folder / "report.html"
    atomic_write(page, _html(run))
    return page


def _html(run: Run) -> str:
    environment = Environment(
        loader=PackageLoader("trivium.study"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        {name: getattr(report_text, name) for name in ("points", "count", "duration", "short", "clip", "plural")},
        metric=metric_name,
    )
    return environment.get_template("report.html.j2").render(
        run=run,
        verdict=run.verdict,
        manifest=run.manifest,
        title=report_tables.title_of(run),
        headline=report_tables.headline(run),
        cautions=report_tables.cautions(run),
        groups=report_tables.groups(run),
        arms=report_tables.arm_rows(run),
        other_metrics=report_tables.other_metrics(run),
        labels=report_tables.label_table(run),
        confusions=report_tables.confusions(run),
        choices=report_tables.choices(run),
        said=_Said(run.manifest),
        figures=_figures(run),
        marked=report_text.marked,
        known=lambda value: number(value) is not None,
    )


def _figures(run: Run) -> dict[str, Any]:
    """The figures by name; none where there is nothing to draw."""
    arms = list(dict.fromkeys([*run.verdict["arms"], *run.looks, *run.losses]))
    styles = figures.styles_of(arms, LINEAR)
    metric = metric_name(run.verdict["metric"])
    looks = {arm: {seed: [(x, 100 * y) for x, y in c] for seed, c in run.looks[arm].items()} for arm in run.looks}
    return {
        "forest": _forest(run, styles, metric),
        "dots": _dots(run, styles, metric),
        "looks": _curves(looks, styles, f"{metric} on dev", "looks"),
        "losses": _curves(run.losses, styles, "masked-language-model loss", "losses"),
        "legend": [
            (arm, figures.swatch(styles[arm], f"swatch-{i}"))
            for i, arm in enumerate(arms)
            if arm in run.looks or arm in run.losses
        ],
    }


def _forest(run: Run, styles: dict[str, Style], metric: str) -> Markup | None:
    rows = []
    for group in report_tables.groups(run):
        for c in (c for c in run.verdict["comparisons"] if c["baseline"] == group.comparisons[0].baseline):
            low, high, delta, seen = (number(c.get(key)) for key in ("low", "high", "delta", "smallest_detectable"))
            if low is None or high is None or delta is None:
                continue
            name = f"{short(c['arm'], 14)} − {short(c['baseline'], 14)}"
            band = None if seen is None else 100 * seen
            certain = c.get("verdict") in ("helped", "hurt")
            rows.append(Difference(name, styles[c["arm"]], 100 * delta, 100 * low, 100 * high, band, certain))
    alt = f"Differences in {metric} with their intervals; the numbers stand in the cards above."
    return figures.forest(rows, f"points of {metric}, to the right is better", alt) if rows else None


def _dots(run: Run, styles: dict[str, Style], metric: str) -> Markup | None:
    scores = {
        arm: [100 * s for s in map(number, about.get("per_seed") or []) if s is not None]
        for arm, about in run.verdict["arms"].items()
    }
    known = {arm: values for arm, values in scores.items() if values}
    alt = f"{metric} of every arm and seed; the numbers stand in the table above."
    return figures.dots(known, styles, LINEAR, f"{metric} on {run.verdict['split']}", alt) if known else None


def _curves(lines: Curves, styles: dict[str, Style], ylabel: str, name: str) -> Markup | None:
    if not lines:
        return None
    return figures.curves(lines, styles, ylabel, name, f"{ylabel} over updates, a line for each arm and seed.")


class _Said:
    """A manifest in lines for the end of the report."""

    def __init__(self, manifest: JSON) -> None:
        hardware = manifest.get("hardware") or {}
        memory = number(hardware.get("memory_gb"))
        machine = [
            hardware.get("cpu"),
            f"{hardware['cores']} cores" if hardware.get("cores") else None,
            f"{memory:.0f} GB memory" if memory else None,
            f"GPU: {hardware['gpu']}" if hardware.get("gpu") else "no GPU" if hardware else None,
        ]
        revision = f" (revision {manifest['revision']})" if manifest.get("revision") else ""
        self.code = f"trivium {manifest['trivium']}{revision}" if manifest.get("trivium") else ""
        self.machine = ", ".join(str(part) for part in machine if part)
        self.finished = str(manifest.get("finished") or "")[:16].replace("T", " ")
        self.notes = [str(note) for note in manifest.get("notes") or []]
        self.inputs = {name: value for name, value in (manifest.get("inputs") or {}).items() if value}
        self.packages = sorted((manifest.get("packages") or {}).items())
        self.artifacts = list(manifest.get("artifacts") or [])
        self.status = str(manifest.get("status") or "")
        self.command = str(manifest.get("command") or "")
        self.python = str(manifest.get("python") or "")
