"""Figures of what was learned beside the task: who is like whom, which heads matter, which rows were kept."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from trivium.core import JSON
from trivium.study.figures import INK, LINE, PALETTE, WIDTH, settings, svg
from trivium.study.report_text import short

_SHADE = "#0072b2"  # of a full cell; an empty one has none, so that it follows light and dark


def affinity(about: Mapping[str, JSON], most: int, name: str) -> Markup:
    """Task by task: the rank correlation of head importances, as numbers on shades."""
    names = [short(task, 14) for task in about["tasks"][:most]]
    values = np.asarray(about["kendall"])[:most, :most]
    with settings():
        figure, axes = _figure((WIDTH, 0.8 + 0.36 * len(names)))
        for i, j in np.ndindex(values.shape):
            _cell(axes, j, i, max(0.0, float(values[i, j])))
            axes.text(j, i, f"{values[i, j]:.2f}".replace("-", "−"), ha="center", va="center", fontsize=8)
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
        axes.set_yticks(range(len(names)), names)
        _frameless(axes, len(names), len(names))
        return svg(figure, name, "Rank correlation of head importances, task by task.")


def heads(importance: Mapping[str, JSON], most: int, name: str) -> Markup:
    """How much each head matters to each task: layers upward, heads across, the darkest matters most."""
    shown = list(importance.items())[:most]
    across = min(4, len(shown))
    down = -(-len(shown) // across)
    with settings():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(WIDTH, 0.3 + 1.35 * down), layout="constrained")
        grid = np.atleast_2d(figure.subplots(down, across, squeeze=False)).ravel()
        for axes, (task, matrix) in zip(grid, shown, strict=False):
            values = np.asarray(matrix)
            for layer, head in np.ndindex(values.shape):
                _cell(axes, head, layer, float(values[layer, head]))
            _frameless(axes, values.shape[1], values.shape[0])
            axes.set_ylim(-0.5, values.shape[0] - 0.5)
            axes.set_xticks([]), axes.set_yticks([])
            axes.set_title(short(task, 16), fontsize=8.5)
        for axes in grid[len(shown) :]:
            axes.set_axis_off()
        return svg(figure, name, "How much each attention head matters to each task; layers upward, heads across.")


def histograms(rows: Mapping[str, JSON], most: int, name: str) -> Markup:
    """The scores of each chosen task's rows, those that were kept filled."""
    shown = list(rows.items())[:most]
    with settings():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(WIDTH, 0.4 + 1.2 * len(shown)), layout="constrained")
        for axes, (task, about) in zip(figure.subplots(len(shown), 1, squeeze=False).ravel(), shown, strict=True):
            edges = np.asarray(about["edges"])
            axes.stairs(about["all"], edges, color=INK, linewidth=1.0)
            axes.stairs(about["kept"], edges, fill=True, color=PALETTE[0], alpha=0.75)
            kept, whole = sum(about["kept"]), sum(about["all"])
            axes.set_title(f"{short(task, 24)}: {kept:,} of {whole:,} rows kept", fontsize=8.5, loc="left")
            axes.set_yticks([])
        axes.set_xlabel("score of a row")
        return svg(figure, name, "Scores of the rows of each chosen task, and of those that were kept.")


def trials(tried: Sequence[Mapping[str, JSON]], metric: str, name: str) -> Markup:
    """What came of each trial, a dot for each seed and their mean."""
    with settings():
        figure, axes = _figure((WIDTH, 2.6))
        for i, trial in enumerate(tried):
            values = [100 * value for value in trial["values"]]
            axes.plot([i] * len(values), values, "o", color=LINE, markersize=4)
        axes.plot(range(len(tried)), [100 * trial["mean"] for trial in tried], "o-", color=PALETTE[0], linewidth=1.6)
        axes.set_xticks(range(len(tried)), [_added(tried, i) for i in range(len(tried))], rotation=30, ha="right")
        axes.grid(visible=True, axis="y")
        axes.set_ylabel(metric)
        return svg(figure, name, f"{metric} on rows that were kept back, trial by trial; the numbers stand beside it.")


def _added(tried: Sequence[Mapping[str, JSON]], i: int) -> str:
    """What a trial has more than the one before, if that is all; else everything it has."""
    now, before = list(tried[i]["rows"]), list(tried[i - 1]["rows"]) if i else []
    more = [task for task in now if task not in before]
    if i and before and len(more) == 1 and set(before) < set(now):
        return f"+ {short(more[0], 14)}"
    return short(" + ".join(now), 18) if now else "alone"


def _figure(size: tuple[float, float]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots()


def _cell(axes: Any, x: float, y: float, share: float) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, color=_SHADE, alpha=0.75 * share, linewidth=0))


def _frameless(axes: Any, across: int, down: int) -> None:
    axes.set_xlim(-0.5, across - 0.5)
    axes.set_ylim(down - 0.5, -0.5)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
