"""Figures of how arms were judged: how sure beside how right, dev by tokens read, and how far two losses agree."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from trivium.study.figures import INK, LINE, PALETTE, WIDTH, Style, settings, svg, thin
from trivium.study.report_equal import Point
from trivium.study.report_judged import Panel
from trivium.study.report_run import Curve
from trivium.study.report_text import count, short

ACROSS = 3


def reliability(panels: Sequence[Panel], styles: Mapping[str, Style], alt: str) -> Markup:
    """A panel for each arm: share of right answers by confidence, beside the diagonal on which they would be equal.

    A marker is a bin, its bar reaches over the seeds; grey columns say where the answers are.
    """
    from matplotlib.figure import Figure

    across = min(ACROSS, len(panels))
    down = -(-len(panels) // across)
    with settings():
        figure = Figure(
            figsize=(WIDTH if across < ACROSS else 1.15 * WIDTH, 0.3 + (2.3 if across < ACROSS else 1.75) * down),
            layout="constrained",
        )
        grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True).ravel()
        for axes, panel in zip(grid, panels, strict=False):
            style = styles[panel.arm]
            sure, right, low, high, share = zip(*panel.bins, strict=True)
            places = [(min(int(10 * at), 9) + 0.5) / 10 for at in sure]
            axes.bar(places, share, width=0.09, color=LINE, alpha=0.6, linewidth=0, zorder=1)
            axes.plot([0, 1], [0, 1], color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=2)
            axes.vlines(sure, low, high, color=style.color, linewidth=1.6, zorder=3)
            axes.plot(sure, right, style.marker, color=style.color, markersize=5.5, zorder=4)
            axes.set_title(short(panel.arm, 18), fontsize=9)
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 1)
            axes.set_xticks([0, 0.5, 1], ["0", "50", "100"])
            axes.set_yticks([0, 0.5, 1], ["0", "50", "100"])
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        figure.supxlabel("how sure, %", fontsize=9.5)
        figure.supylabel("how often right, %", fontsize=9.5)
        return svg(figure, "reliability", alt)


def by_tokens(
    lines: Mapping[str, Sequence[Point]], shared: int, styles: Mapping[str, Style], ylabel: str, alt: str
) -> Markup:
    """A line for each arm's mean, a band for the range of its seeds, and a mark where all arms had read as much."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with settings():
        figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.axvline(shared, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        for arm, points in lines.items():
            style, x = styles[arm], [point.tokens for point in points]
            low, high = [100 * p.low for p in points], [100 * p.high for p in points]
            axes.fill_between(x, low, high, step="post", color=style.color, alpha=0.16, linewidth=0, zorder=2)
            axes.step(x, [100 * p.mean for p in points], where="post", color=style.color, linewidth=1.6, zorder=3)
            axes.plot(x[-1], 100 * points[-1].mean, style.marker, color=style.color, markersize=6, zorder=4)
        axes.grid(visible=True)
        axes.set_xlabel("tokens read")
        axes.set_ylabel(ylabel)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(lambda value, _: count(value))
        return svg(figure, "tokens", alt)


def agreement(layers: Mapping[str, Curve], name: str, alt: str) -> Markup:
    """The cosine of two gradients over updates, a line for each layer, the lower the paler."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with settings():
        figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
        axes = figure.subplots()
        for i, (layer, curve) in enumerate(layers.items()):
            _layer(axes, layer, thin(curve), i, len(layers))
        axes.axhline(0, color=INK, linewidth=1)
        axes.grid(visible=True)
        axes.set_xlabel("updates")
        axes.set_ylabel("cosine")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.legend(frameon=False, fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
        return svg(figure, name, alt)


def _layer(axes: Any, layer: str, curve: Sequence[tuple[float, float]], i: int, many: int) -> None:
    named = {"embeddings": (PALETTE[1], "o"), "top": (PALETTE[2], "s")}
    color, marker = named.get(layer, (PALETTE[0], "."))
    alpha = 1.0 if layer in named else 0.35 + 0.65 * i / many
    said = layer if layer in named else f"layer {layer}"
    shown = said if layer in named or many <= 10 or i in (1, many // 2, many - 2) else "_"
    x, y = zip(*curve, strict=True)
    axes.plot(x, y, marker=marker, markersize=4, color=color, alpha=alpha, linewidth=1.3, label=shown)
