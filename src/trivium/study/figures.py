"""The figures of the report, as SVG to stand inside an HTML page.

Colours are Okabe and Ito's, and each arm has a marker of its own, so that nothing is told by colour alone. Ink is the
page's text colour: a figure follows light and dark. The same numbers give the same bytes.
"""

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from trivium.core import JSON
from trivium.study.report_run import Curve, Curves
from trivium.study.report_text import short
from trivium.study.report_verdict import Comparison

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = "osv^DPX"
# matplotlib knows no CSS: these colours stand in for it until the SVG is written
INK, LINE, CARD = "#0a0b0c", "#8a8b8c", "#fafbfc"
CSS = {INK: "currentColor", LINE: "var(--line)", CARD: "var(--card)"}
WIDTH = 4.6  # inches; on the page a figure is as wide as its column, so this sets how large its text is


@dataclass(frozen=True)
class Style:
    """How an arm looks in every figure."""

    color: str
    marker: str


def styles_of(arms: Sequence[str], reference: str) -> dict[str, Style]:
    """A style for each arm; the reference is drawn in ink.

    >>> styles_of(["a", "linear"], "linear")["a"]
    Style(color='#0072b2', marker='o')
    """
    trained = [arm for arm in arms if arm != reference]
    many = len(PALETTE)
    styles = {a: Style(PALETTE[i % many], MARKERS[(i + i // many) % len(MARKERS)]) for i, a in enumerate(trained)}
    return {arm: styles.get(arm, Style(INK, "*")) for arm in arms}


def forest(comparisons: Sequence[Comparison], styles: Mapping[str, Style], xlabel: str, alt: str) -> Markup:
    """Each difference with its interval, in points; a hollow marker where the verdict is open.

    The grey band behind a row spans the effects that this design is too small to see. Every comparison has numbers.
    """
    with settings():
        figure, axes = _rows([f"{short(c.arm, 16)} − {short(c.baseline, 16)}" for c in comparisons])
        for row, c in enumerate(comparisons):
            color, marker = styles[c.arm].color, styles[c.arm].marker
            low, delta, high = (100 * value for value in (c.low, c.delta, c.high) if value is not None)
            if c.detectable is not None:
                reach = 100 * c.detectable
                axes.barh(row, 2 * reach, left=-reach, height=0.56, color=LINE, alpha=0.6, zorder=1)
            axes.plot([low, high], [row, row], color=color, linewidth=2.2, solid_capstyle="butt", zorder=3)
            face = color if c.verdict in ("helped", "hurt") else CARD
            axes.plot(delta, row, marker, color=color, markerfacecolor=face, markersize=8, zorder=4)
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_xlabel(xlabel)
        return svg(figure, "forest", alt)


def dots(
    values: Mapping[str, Sequence[float]], styles: Mapping[str, Style], reference: str, xlabel: str, alt: str
) -> Markup:
    """Each seed's score a dot, each arm's mean a bar, the reference's mean a dashed line through all rows."""
    with settings():
        figure, axes = _rows([short(arm, 24) for arm in values])
        for row, (arm, scores) in enumerate(values.items()):
            style, mean = styles[arm], sum(scores) / len(scores)
            step = 0.36 / max(len(scores) - 1, 1)  # equal scores of several seeds stay apart
            heights = [row + step * (i - (len(scores) - 1) / 2) for i in range(len(scores))]
            axes.plot([mean, mean], [row - 0.3, row + 0.3], color=INK, linewidth=1.6, zorder=2)
            axes.plot(scores, heights, style.marker, color=style.color, markersize=6.5, alpha=0.9, zorder=3)
            if arm == reference:
                axes.axvline(mean, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        axes.set_xlabel(xlabel)
        return svg(figure, "dots", alt)


def curves(lines: Curves, styles: Mapping[str, Style], ylabel: str, name: str, alt: str) -> Markup:
    """A thin line for each seed in its arm's colour, with the arm's marker at its end."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with settings():
        figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
        axes = figure.subplots()
        for arm, seeds in lines.items():
            style = styles[arm]
            alpha = max(0.3, min(0.85, 3 / len(seeds)))  # many seeds are a band, not a tangle
            for curve in seeds.values():
                x, y = zip(*thin(curve), strict=True)
                axes.plot(x, y, color=style.color, linewidth=1.2, alpha=alpha)
                axes.plot(x[-1], y[-1], style.marker, color=style.color, markersize=6)
        axes.grid(visible=True)
        axes.set_xlabel("updates")
        axes.set_ylabel(ylabel)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        return svg(figure, name, alt)


def learning(history: JSON, name: str, alt: str) -> Markup:
    """Policy minus random by episode: a dot for each, the running mean, and its interval as a band."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with settings():
        figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
        axes = figure.subplots()
        dots = thin(list(enumerate(history["differences"], 1)), most=300)
        axes.plot(*zip(*dots, strict=True), "o", color=LINE, markersize=3)
        known = {
            key: [(i, y) for i, y in enumerate(history[key], 1) if y is not None] for key in ("mean", "low", "high")
        }
        if known["mean"]:
            mean, low, high = (thin(curve) for curve in known.values())
            x = [at for at, _ in mean]
            axes.fill_between(x, [y for _, y in low], [y for _, y in high], color=PALETTE[0], alpha=0.22, linewidth=0)
            axes.plot(*zip(*mean, strict=True), color=PALETTE[0], linewidth=1.8)
        axes.axhline(0, color=INK, linewidth=1)
        axes.grid(visible=True)
        axes.set_xlabel("episodes")
        axes.set_ylabel("nats a row")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        return svg(figure, name, alt)


def thin(curve: Curve, most: int = 120) -> list[tuple[float, float]]:
    """The same curve in at most so many points, each the mean of a stretch.

    >>> thin([(1, 4.0), (2, 2.0), (3, 1.0), (4, 0.0)], most=2)
    [(1.5, 3.0), (3.5, 0.5)]
    """
    size = -(-len(curve) // most)
    stretches = [curve[i : i + size] for i in range(0, len(curve), size)]
    return [(sum(x for x, _ in s) / len(s), sum(y for _, y in s) / len(s)) for s in stretches]


def swatch(style: Style, name: str) -> Markup:
    """An arm's line and marker, for a legend in HTML, where long names wrap."""
    from matplotlib.figure import Figure

    with settings():
        figure = Figure(figsize=(0.44, 0.22))
        axes = figure.add_axes((0.05, 0, 0.9, 1))
        axes.plot([0, 2], [0, 0], color=style.color, linewidth=1.6)
        axes.plot(1, 0, style.marker, color=style.color, markersize=7)
        axes.set_axis_off()
        return svg(figure, name, "")


@contextmanager
def settings() -> Iterator[None]:
    """Settings of our own, whatever the user's matplotlibrc says."""
    from matplotlib import style

    ours: dict[str, Any] = {
        "font.size": 9.5,
        "svg.fonttype": "none",
        "svg.hashsalt": "trivium",
        "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same measures everywhere
        "text.parse_math": False,  # an arm may be called $x$
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.linewidth": 0.7,
        "grid.color": LINE,
        **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    }
    with style.context(["default", ours]), warnings.catch_warnings():
        # matplotlib only measures the text; the browser draws it, with whatever fonts it has
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        yield


def _rows(names: Sequence[str]) -> tuple[Any, Any]:
    """A figure and axes with a row for each name, the first on top."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(WIDTH, 0.75 + 0.42 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=True, axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    return figure, axes


def svg(figure: Any, name: str, alt: str) -> Markup:
    """The figure as an ``<svg>`` element whose ids begin with ``name``, since ids belong to the whole page."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"<[^>]*>", lambda tag: _for_page(tag[0], name), text)  # names are escaped: they hold no tag
    text = re.sub(r"\s*\n\s*", "\n", text)
    label = f'role="img" aria-label="{escape(alt)}"' if alt else 'aria-hidden="true"'
    return Markup(re.sub(r'width="[^"]*pt" height="[^"]*pt"', lambda _: label, text, count=1))  # noqa: S704  # nosec B704


def _for_page(tag: str, name: str) -> str:
    for color, css in CSS.items():
        tag = tag.replace(color, css)
    tag = re.sub(r' xmlns(:xlink)?="[^"]*"', "", tag).replace("xlink:href", "href")  # HTML knows them
    return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", tag)
