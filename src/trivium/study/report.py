"""The report of a run: one HTML file for a browser, one Markdown file for a terminal.

It only reads what the run left in its folder; nothing is measured or judged here. The HTML file holds its figures, its
style and a script that sorts and filters tables, which it can be read without; its policy lets no other script run and
nothing be asked of any server. The same folder gives the same bytes.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from trivium.store import atomic_write
from trivium.study import (
    figures,
    figures_judged,
    report_beside,
    report_equal,
    report_hiding,
    report_judged,
    report_markdown,
    report_tables,
    report_text,
    report_verdict,
)
from trivium.study.diagnosis import RULES, Finding, diagnose, troubled
from trivium.study.figures import Style
from trivium.study.report_run import Curves, Run, read_run
from trivium.study.report_text import metric_name, number
from trivium.study.report_verdict import LINEAR

FILTERS = {
    "clip": report_text.clip,
    "count": report_text.count,
    "duration": report_text.duration,
    "interval": report_text.interval,
    "marked": report_text.marked,
    "metric": metric_name,
    "nearness": report_text.nearness,
    "number": number,
    "percent": report_hiding.percent,
    "plural": report_text.plural,
    "points": report_text.points,
    "probability": report_text.probability,
    "short": report_text.short,
    "signed": report_text.signed,
}


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
    environment.filters.update(FILTERS)
    script = _script(environment)
    return environment.get_template("report.html.j2").render(
        script=Markup(script),  # noqa: S704  # nosec B704  # a file of ours
        policy=_digest(script),
        run=run,
        verdict=run.verdict,
        manifest=run.manifest,
        title=report_verdict.title_of(run),
        headline=report_verdict.headline(run.verdict),
        cautions=report_verdict.cautions(run),
        groups=report_verdict.groups(run),
        numbers={arm: i for i, arm in enumerate(run.verdict["arms"])},
        findings=_by_title(diagnose(run)),
        troubled=troubled(run),
        rules=len(RULES),
        calibration=report_judged.calibration(run),
        equal=report_equal.equal_tokens(run),
        agreement=report_judged.agreement_rows(report_judged.agreement(run)),
        leaks=report_judged.leaks(run),
        arms=report_tables.arm_rows(run),
        other_metrics=report_tables.other_metrics(run),
        cost_notes=report_tables.cost_notes(run),
        labels=report_tables.label_table(run),
        confusions=report_tables.confusions(run),
        choices=report_tables.choices(run),
        hiding=report_tables.hidings(run),
        besides=report_beside.besides(run),
        origin=report_tables.origin_of(run),
        figures=_figures(run),
    )


def _by_title(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Findings that say the same of several arms together."""
    titles = dict.fromkeys(finding.title for finding in findings)
    return [[finding for finding in findings if finding.title == title] for title in titles]


def _script(environment: Environment) -> str:
    """The script as it stands in the page."""
    assert environment.loader is not None
    return environment.loader.get_source(environment, "report.js")[0].strip()


def _digest(script: str) -> str:
    """What a policy calls a script by: the hash of its bytes (Content Security Policy Level 3, section 2.3.1).

    >>> _digest("")
    'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='
    """
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _figures(run: Run) -> dict[str, Any]:
    """The figures by name; none where there is nothing to draw."""
    drawn = {arm for curves in run.curves.values() for arm in curves}
    arms = list(dict.fromkeys([*run.verdict["arms"], *sorted(drawn)]))
    styles = figures.styles_of(arms, LINEAR)
    metric = metric_name(run.verdict["metric"])
    dev = {
        arm: {seed: [(update, 100 * value) for update, value in curve] for seed, curve in seeds.items()}
        for arm, seeds in run.curves["value"].items()
    }
    return {
        "forest": _forest(run, styles, metric),
        "dots": _dots(run, styles, metric),
        "dev": _curves(dev, styles, f"{metric} on dev", "dev"),
        "mlm": _curves(run.curves["mlm"], styles, "masked-language-model loss", "mlm"),
        "task": _curves(run.curves["task"], styles, "loss on the task", "task"),
        "learning": _learning(run),
        "reliability": _reliability(run, styles),
        "tokens": _by_tokens(run, styles, f"{metric} on dev, best so far"),
        "agreement": _agreement(run),
        "legend": [(arm, figures.swatch(styles[arm], f"swatch-{i}")) for i, arm in enumerate(arms) if arm in drawn],
    }


def _forest(run: Run, styles: Mapping[str, Style], metric: str) -> Markup | None:
    rows = [c for group in report_verdict.groups(run) for c in group.comparisons]
    known = [c for c in rows if c.arm in styles and None not in (c.delta, c.low, c.high)]
    alt = f"Differences in {metric} with their intervals; the numbers stand in the table above."
    return figures.forest(known, styles, "difference in points", alt) if known else None


def _dots(run: Run, styles: Mapping[str, Style], metric: str) -> Markup | None:
    scores = {
        arm: [100 * s for s in map(number, about.get("per_seed") or []) if s is not None]
        for arm, about in run.verdict["arms"].items()
    }
    known = {arm: values for arm, values in scores.items() if values}
    alt = f"{metric} of every arm and seed; the numbers stand in the table above."
    return figures.dots(known, styles, LINEAR, f"{metric} on {run.verdict['split']}", alt) if known else None


def _curves(lines: Curves, styles: Mapping[str, Style], ylabel: str, name: str) -> Markup | None:
    alt = f"{ylabel} over updates, a line for each arm and seed."
    return figures.curves(lines, styles, ylabel, name, alt) if lines else None


def _learning(run: Run) -> dict[str, Markup]:
    """How each policy was learned, by arm."""
    found = report_tables.hidings(run)
    alt = "Policy minus random masking, episode by episode; the verdict below has the number that counts."
    learned = enumerate(found.learned if found else ())
    return {one.arm: figures.learning(one.history, f"learning-{i}", alt) for i, one in learned if one.history}


def _reliability(run: Run, styles: Mapping[str, Style]) -> Markup | None:
    found = report_judged.calibration(run)
    alt = "How often each arm is right by how sure it is; the table beside it has the errors."
    return figures_judged.reliability(found.panels, styles, alt) if found else None


def _by_tokens(run: Run, styles: Mapping[str, Style], ylabel: str) -> Markup | None:
    found = report_equal.equal_tokens(run)
    lines = {arm: line for arm, line in found.lines.items() if line} if found else {}
    alt = f"{ylabel}, by tokens read, a line for each arm; the table beside it has the numbers at equal tokens."
    return figures_judged.by_tokens(lines, found.tokens, styles, ylabel, alt) if found and lines else None


def _agreement(run: Run) -> list[tuple[str, Markup]]:
    """Of each arm that compared gradients, the cosines."""
    alt = "Cosine of the two losses' gradients over updates, a line for each layer; the table beside it has the means."
    found = report_judged.agreement(run)
    return [
        (arm, figures_judged.agreement(layers, f"agreement-{i}", alt)) for i, (arm, layers) in enumerate(found.items())
    ]
