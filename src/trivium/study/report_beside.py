"""What was learned beside the task, as the report says it: rows of tables, figures, and a warning where one hurts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from trivium.core import JSON
from trivium.study import figures_beside as figures
from trivium.study.beside_text import agreement, between, cost, rated, warning, with_whom
from trivium.study.report_run import Run
from trivium.study.report_text import count, duration, metric_name, points, signed

MOST_TASKS = 16  # of a figure


@dataclass(frozen=True)
class Beside:
    """What the arms that share a choice learned beside the task.

    Attributes:
        arms: Names of the arms.
        kind: How they chose.
        ratings: Of each candidate: name, rating, interval, rows, chosen rows.
        trials: Of each trial: the tasks, metric, loss, updates, and whether it did best.
        warnings: What is said of candidates that hurt.
        effects: Of each candidate tried with and without: name, beside which, difference, interval, what it says.
        conflicts: What is said of gradients that conflicted with the task's, arm by arm.
        cost: What choosing took.
        gain: What the arms gained beside what choosing took.
        affinity: Figure: task by task.
        heads: Figure: how much each head matters to each task.
        rows: Figure: the scores of rows, and of those kept.
        curve: Figure: what came of each trial.
    """

    arms: tuple[str, ...]
    kind: str
    ratings: tuple[tuple[str, str, str, str, str], ...]
    trials: tuple[tuple[str, str, str, str, bool], ...]
    warnings: tuple[str, ...]
    effects: tuple[tuple[str, str, str, str, str], ...]
    conflicts: tuple[str, ...]
    cost: str
    gain: tuple[str, ...]
    affinity: Markup | None
    heads: Markup | None
    rows: Markup | None
    curve: Markup | None


def besides(run: Run) -> tuple[Beside, ...]:
    """Each choice once, whichever arms and seeds share it; the first seed's of those that choose for themselves."""
    sharing: dict[str, list[str]] = {}
    for arm, about in (run.manifest.get("arms") or {}).items():
        folder = next(iter((about.get("auxiliary") or {}).values()), "")
        if run.beside.get(folder):
            sharing.setdefault(folder, []).append(arm)
    return tuple(_beside(run, arms, run.beside[folder], i) for i, (folder, arms) in enumerate(sharing.items()))


def _beside(run: Run, arms: Sequence[str], about: JSON, number: int) -> Beside:
    metric = metric_name(about["metric"])
    best = max((trial["mean"] for trial in about["trials"]), default=0.0)
    return Beside(
        arms=tuple(arms),
        kind=about["selector"]["kind"],
        ratings=tuple(
            (one["name"], rated(one), between(one), count(one["rows"]), count(one["chosen"]))
            for one in about["ratings"]
        ),
        trials=tuple(
            (
                with_whom(trial["rows"]),
                points(trial["mean"]),
                f"{trial['loss']:.3f}",
                count(trial["updates"]),
                trial["mean"] == best,
            )
            for trial in about["trials"]
        ),
        warnings=tuple(warning(effect, metric) for effect in about["effects"] if effect["says"] == "hurts"),
        effects=tuple(
            (
                effect["name"],
                ", ".join(effect["beside"]) or "nothing else",
                signed(effect["delta"]),
                f"[{signed(effect['low'])}, {signed(effect['high'])}]",
                effect["says"],
            )
            for effect in about["effects"]
        ),
        conflicts=tuple(_conflicts(arm, run.conflicts[arm]) for arm in arms if arm in run.conflicts),
        cost=" ".join(filter(None, [agreement(about["stability"]), cost(about["cost"])])),
        gain=tuple(_gain(run, arm, about["cost"]) for arm in arms if _against_baseline(run, arm)),
        **_figures(about, metric, f"beside-{number}"),
    )


def _conflicts(arm: str, tasks: Mapping[str, tuple[float, float]]) -> str:
    """In how many of their turns the tasks' gradients conflicted, the most first."""
    said = [
        f"{task} in {100 * share:.0f} % of its turns (mean cosine {cosine:+.2f})".replace("-", "−")
        for task, (share, cosine) in sorted(tasks.items(), key=lambda one: -one[1][0])
    ]
    return f"{arm}: gradients conflicted with the task's for {', '.join(said)}."


def _against_baseline(run: Run, arm: str) -> JSON:
    """The comparison of an arm with the baseline, if it was made."""
    pairs = run.verdict["comparisons"]
    return next((c for c in pairs if c["arm"] == arm and c["baseline"] == run.verdict["baseline"]), None)


def _gain(run: Run, arm: str, spent: Mapping[str, JSON]) -> str:
    """What an arm gained beside what choosing for it took."""
    compared, trained = _against_baseline(run, arm), run.verdict["arms"][arm].get("seconds") or 0.0
    chosen = f"{duration(spent['seconds'])} of choosing, and " if spent["trainings"] else ""
    gained = f"{arm}: {signed(compared['delta'])} points against {run.verdict['baseline']}"
    return f"{gained}, for {chosen}{duration(trained)} of training for each seed."


def _figures(about: JSON, metric: str, name: str) -> dict[str, Markup | None]:
    return {
        "affinity": figures.affinity(about["affinity"], MOST_TASKS, f"{name}-affinity") if about["affinity"] else None,
        "heads": figures.heads(about["importance"], MOST_TASKS, f"{name}-heads") if about["importance"] else None,
        "rows": figures.histograms(about["rows"], MOST_TASKS, f"{name}-rows") if about["rows"] else None,
        "curve": figures.trials(about["trials"], metric, f"{name}-trials") if len(about["trials"]) > 1 else None,
    }
