"""The report in Markdown: the verdict and the tables that matter, laid out to be read unrendered in a terminal."""

import re
import textwrap
import unicodedata
from collections.abc import Sequence

from trivium.study.diagnosis import diagnose
from trivium.study.report_beside import Beside, besides
from trivium.study.report_hiding import NONE, Hiding
from trivium.study.report_judged import leaks
from trivium.study.report_run import Run
from trivium.study.report_tables import ArmRow, Choice, arm_rows, choices, cost_notes, hidings, label_table, origin_of
from trivium.study.report_text import (
    NOTHING,
    clip,
    count,
    interval,
    listed,
    metric_name,
    nearness,
    points,
    probability,
    short,
    signed,
)
from trivium.study.report_verdict import Comparison, cautions, groups, headline, title_of

WIDTH = 116  # columns; a terminal has 120 or can have
MOST_SEEDS = 8
LEFT_OUT = {
    "heldout_equal": "equal to held-out text",
    "contaminated": "overlapping held-out text",
    "duplicates": "duplicates",
    "near_duplicates": "near-duplicates",
}


def markdown(run: Run) -> str:
    """The whole report."""
    arms, verdict, manifest, origin = arm_rows(run), run.verdict, run.manifest, origin_of(run)
    metric = metric_name(verdict["metric"])
    parts = [f"# {plain(verdict['study'])}", wrapped(plain(title_of(run))), wrapped(f"**{plain(headline(verdict))}**")]
    parts += [bullets(cautions(run))]
    for group in groups(run):
        parts += [f"## {plain(group.question)}", _comparisons(group.comparisons)]
    parts += [
        wrapped(
            f"Differences are in points of {metric}. The interval allows for chance in training (seeds) and in the "
            "rows judged. Smallest detectable: what a study of this size would call in four of five cases."
        ),
        f"## Scores: {metric} on {verdict['split']}, in points",
        _scores(arms, verdict["seeds"]),
        bullets([f"{short(a.name)} failed: {a.failed}" for a in arms if a.failed]),
        _causes(run),
        "## Arms and what they cost, mean per seed",
        table(
            ("arm", "updates", "tokens", "FLOPs", "time", "reads"),
            [(a.name, a.updates, a.tokens, a.flops, a.seconds, a.reads) for a in arms],
            "lrrrrl",
        ),
        bullets([f"{short(a.name)}: {a.stages}" for a in arms if a.stages != NOTHING]),
        wrapped(plain(" ".join(cost_notes(run)))) if cost_notes(run) else "",
        _documents(choices(run)),
        wrapped(plain(found.sentence)) if (found := leaks(run)) else "",
        _hidden(hidings(run)),
        _beside(besides(run)),
        "## Notes on the data",
        bullets(origin.notes or ["Nothing out of the ordinary was found while loading."]),
    ]
    if origin.parts or origin.fingerprints:
        made = [f"{name}: {value}" for name, value in (*origin.parts, *origin.fingerprints)]
        parts += ["## Made with", bullets(made)]
    if run.problems:
        parts += ["## Missing here", bullets(run.problems)]
    if manifest.get("command"):
        parts += [f"## Run it again\n\n    {' '.join(str(manifest['command']).split())}"]
    labels = f"{table_of_labels.title.lower()}, " if (table_of_labels := label_table(run)) else ""
    parts += [f"Figures, {labels}documents and settings stand in [report.html](report.html)."]
    return "\n\n".join(part for part in parts if part) + "\n"


def _comparisons(comparisons: Sequence[Comparison]) -> str:
    return table(
        ("verdict", "arm", "difference", "95 % interval", "p (Holm)", "smallest detectable"),
        [
            (
                f"{c.symbol} {c.said}",
                c.arm,
                signed(c.delta),
                interval(c.low, c.high),
                probability(c.p),
                points(c.detectable),
            )
            for c in comparisons
        ],
        "llrrrr",
    )


def _causes(run: Run) -> str:
    """What may lie behind a result that is no gain."""
    said = [f"{f.title} ({listed(f.arms or ['the study'])}). {f.measured} Try: {f.advice}" for f in diagnose(run)]
    return f"## Likely causes\n\n{bullets(said)}" if said else ""


def _scores(arms: Sequence[ArmRow], seeds: Sequence[int]) -> str:
    shown = seeds[:MOST_SEEDS]
    rows = [(f"{a.name} ({a.role})" if a.role else a.name, a.score, *a.per_seed[: len(shown)]) for a in arms]
    more = f"\n\n{len(seeds) - len(shown)} more seeds stand in report.html." if len(seeds) > len(shown) else ""
    return table(("arm", "mean ± sd", *(f"seed {seed}" for seed in shown)), rows, "lr" + "r" * len(shown)) + more


def _beside(found: Sequence[Beside]) -> str:
    if not found:
        return ""
    parts = ["## What was learned beside"]
    for one in found:
        parts += [
            f"### {plain(', '.join(one.arms))} ({one.kind})",
            bullets(one.warnings),
            table(("candidate", "rating", "95 % interval", "rows", "chosen"), one.ratings, "lrrrr"),
            table(("tried beside", "metric", "loss", "updates"), [trial[:4] for trial in one.trials], "lrrr")
            if one.trials
            else "",
            wrapped(plain(" ".join([*one.conflicts, one.cost, *one.gain]))),
        ]
    return "\n\n".join(part for part in parts if part)


def _documents(found: Sequence[Choice]) -> str:
    if not found:
        return ""
    rows = [
        (
            c.who,
            count(c.counts.get("documents")),
            count(c.counts.get("words")),
            nearness(c.nearness),
            ", ".join(f"{source} {count(documents)}" for source, documents, _ in c.sources),
        )
        for c in found
    ]
    chosen = table(("read by", "documents", "words", "KL reduction", "from"), rows, "lrrrl")
    left_out = [
        f"{c.who}: left out {', '.join(f'{count(c.counts.get(key))} {said}' for key, said in LEFT_OUT.items())}"
        for c in found
    ]
    return f"## Documents that were read\n\n{chosen}\n\n{bullets(left_out)}"


def _hidden(found: Hiding | None) -> str:
    """The maskers in short; texts and lifts stand in the HTML report."""
    if found is None:
        return ""
    shares = table(("arm", "words", "tokens"), [row[:3] for row in found.shares], "lrr")
    named = [(arm, *top) for arm, _, _, *top in found.shares if set(top) != {NONE}]
    pairs = [(f"{short(a)} and {short(b)}", *numbers) for a, b, *numbers in found.pairs]
    common = table(("maskers", "same draws", "own draws", "by chance"), pairs, "lrrr") if pairs else ""
    parts = [
        "## What was hidden",
        wrapped(
            f"Share of words and tokens that are hidden, in {found.looked}; and words with their lift: how many "
            "times as often they are hidden as words are on the mean."
        ),
        shares,
        bullets([f"{short(arm)}: most lifted {lifted}; most avoided {avoided}" for arm, lifted, avoided in named]),
        common and wrapped("What two maskers hide of the same text, as a share of what either hides:"),
        common,
        bullets([f"{short(one.arm)}: {one.sentence}" for one in found.learned if one.sentence]),
    ]
    return "\n\n".join(part for part in parts if part)


def bullets(lines: Sequence[str]) -> str:
    """A list."""
    return "\n".join(wrapped(f"- {plain(line)}", "  ") for line in lines)


def wrapped(text: str, indent: str = "") -> str:
    """A paragraph in lines; a word that is longer than a line, such as a path, stays whole."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], sides: str) -> str:
    r"""A table whose columns line up; ``sides`` has an l or an r for each. The widest column gives way if need be.

    >>> print(table(("arm", "score"), [("tlm", "61.0"), ("a|b", "9.5")], "lr"))
    | arm  | score |
    | :--- | ----: |
    | tlm  |  61.0 |
    | a\|b |   9.5 |
    """
    most = [WIDTH] * len(header)
    while True:
        cells = [[plain(short(cell, room)) for cell, room in zip(row, most, strict=True)] for row in (header, *rows)]
        widths = [max(3, *map(_columns, column)) for column in zip(*cells, strict=True)]
        if sum(widths) + 3 * len(widths) + 1 <= WIDTH:
            break
        widest = widths.index(max(widths))
        most[widest] = min(most[widest], widths[widest]) - 1
    rule = ["-" * (w - 1) + ":" if s == "r" else ":" + "-" * (w - 1) for w, s in zip(widths, sides, strict=True)]
    lines = [[_pad(*cell) for cell in zip(row, widths, sides, strict=True)] for row in cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def plain(text: str) -> str:
    r"""Text that stays text in Markdown, on one line.

    >>> plain("<b>|x|")
    '\\<b>\\|x\\|'
    """
    line = clip(" ".join(str(text).split()), 400) or NOTHING
    return re.sub(r"([\\|`]|<(?=[A-Za-z/!?])|(?<=\])\()", r"\\\1", line)  # no tag and no link; "< 0.001" stays


def _columns(text: str) -> int:
    """How many columns of a terminal a text takes: East Asian characters take two, combining marks none."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in text)


def _pad(text: str, width: int, side: str) -> str:
    room = " " * (width - _columns(text))
    return room + text if side == "r" else text + room
