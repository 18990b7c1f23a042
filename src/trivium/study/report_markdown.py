"""The report in Markdown: the verdict and the tables that matter, aligned so that it reads well unrendered."""

import unicodedata
from collections.abc import Sequence

from trivium.study.report_run import Run
from trivium.study.report_tables import arm_rows, cautions, groups, headline, title_of
from trivium.study.report_text import NOTHING, clip, duration, metric_name


def markdown(run: Run) -> str:
    """The whole report."""
    arms, manifest = arm_rows(run), run.manifest
    metric, split = metric_name(run.verdict["metric"]), run.verdict["split"]
    parts = [f"# {plain(run.verdict['study'])}", plain(title_of(run)), f"**{plain(headline(run))}**"]
    parts += [bullets(cautions(run))]
    for group in groups(run):
        header = ("verdict", "arm", "difference", "95 % interval", "p (Holm)", "smallest detectable")
        rows = [(f"{c.symbol} {c.verdict}", c.arm, c.delta, c.interval, c.p, c.detectable) for c in group.comparisons]
        parts += [f"## {plain(group.question)}", table(header, rows, "llrrrr")]
    parts += [
        f"Differences are in points of {metric}. The interval allows for chance in training (seeds) and in the rows that "
        "were judged. Smallest detectable: what a study of this size would have called in four of five cases.",
        f"## Scores: {metric} on {split}",
        table(
            ("arm", "mean ± sd", *(f"seed {seed}" for seed in run.verdict["seeds"])),
            [(f"{a.name} ({a.role})" if a.role else a.name, a.score, *a.per_seed) for a in arms],
            "l" + "r" * (1 + len(run.verdict["seeds"])),
        ),
        bullets([f"{a.name} failed: {a.failed}" for a in arms if a.failed]),
        "## Arms and what they cost",
        table(
            ("arm", "reads", "stages (updates)", "updates", "tokens", "time"),
            [(a.name, a.reads, a.stages, a.updates, a.tokens, a.seconds) for a in arms],
            "lllrrr",
        ),
        f"Mean per seed. The whole run took {duration(manifest.get('seconds'))}." if manifest.get("seconds") else "",
        "## Said while loading",
        bullets(manifest.get("notes") or ["Nothing out of the ordinary."]),
    ]
    if run.problems:
        parts += ["## Missing here", bullets(run.problems)]
    parts += ["## More", "Figures, labels, documents and settings: [report.html](report.html)."]
    if manifest.get("command"):
        parts += [f"Run it again:\n\n    {' '.join(str(manifest['command']).split())}"]
    return "\n\n".join(part for part in parts if part) + "\n"


def bullets(lines: Sequence[str]) -> str:
    """A list."""
    return "\n".join(f"- {plain(line)}" for line in lines)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], sides: str) -> str:
    r"""A table whose columns line up; ``sides`` has an l or an r for each.

    >>> print(table(("arm", "score"), [("tlm", "61.0"), ("a|b", "9.5")], "lr"))
    | arm  | score |
    | :--- | ----: |
    | tlm  |  61.0 |
    | a\|b |   9.5 |
    """
    cells = [[plain(cell) for cell in row] for row in (header, *rows)]
    widths = [max(3, *map(_columns, column)) for column in zip(*cells, strict=True)]
    rule = ["-" * (w - 1) + ":" if s == "r" else ":" + "-" * (w - 1) for w, s in zip(widths, sides, strict=True)]
    lines = [[_pad(*cell) for cell in zip(row, widths, sides, strict=True)] for row in cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def plain(text: str) -> str:
    r"""Text that stays text in Markdown, on one line.

    >>> plain("<b>|x|")
    '\\<b>\\|x\\|'
    """
    line = clip(" ".join(str(text).split()), 300) or NOTHING
    for sign in ("\\", "<", "|", "`", "]("):
        line = line.replace(sign, f"\\{sign}" if sign != "](" else "]\\(")
    return line


def _columns(text: str) -> int:
    """How many columns of a terminal a text takes: East Asian characters take two, combining marks none."""
    return sum(
        2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in text
    )


def _pad(text: str, width: int, side: str) -> str:
    room = " " * (width - _columns(text))
    return room + text if side == "r" else text + room
