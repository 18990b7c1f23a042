"""What `trivium auxiliary` shows: every candidate with its rating, what was tried, what hurts, and what it took."""

from collections.abc import Iterator, Mapping

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trivium.core import JSON
from trivium.study.report_text import duration, plural


def print_beside(told: Mapping[str, JSON], console: Console) -> None:
    """Print what the arms of a study learn beside the task.

    Args:
        told: As ``runner.choose_tasks`` returns it.
        console: Where to.
    """
    if not told:
        console.print("No arm learns anything beside the task: no stage has 'auxiliary' in its mix.")
    for arm, about in told.items():
        console.print(Text(f"{arm}: {about['selector']['kind']}", style="bold"), soft_wrap=True)
        for part in _arm(about):
            console.print(Padding(part, (0, 0, 0, 2)))
        console.print()


def _arm(about: JSON) -> Iterator[Text | Table | str]:
    yield _ratings(about["ratings"])
    if about["trials"]:
        yield ""
        yield _trials(about)
    for effect in about["effects"]:
        if effect["says"] == "hurts":
            yield ""
            yield Text(warning(effect, about["metric"]), style="bold")
    yield ""
    yield Text(" ".join(filter(None, [agreement(about["stability"]), cost(about["cost"])])), style="dim")


def _ratings(ratings: list[dict[str, JSON]]) -> Table:
    table = Table("candidate", box=None, pad_edge=False, header_style="dim")
    for head in ("rating", "interval", "rows", "chosen"):
        table.add_column(head, justify="right")
    for one in ratings:
        chosen = f"{one['chosen']:,}" if one["chosen"] else "–"
        style = "" if one["chosen"] else "dim"
        table.add_row(one["name"], rated(one), between(one), f"{one['rows']:,}", chosen, style=style)
    return table


def _trials(about: JSON) -> Table:
    table = Table("tried beside", box=None, pad_edge=False, header_style="dim")
    for head in (about["metric"], "loss", "updates"):
        table.add_column(head, justify="right")
    best = max(trial["mean"] for trial in about["trials"])
    for trial in about["trials"]:
        style = "bold" if trial["mean"] == best else ""
        value = f"{100 * trial['mean']:.1f}"
        table.add_row(with_whom(trial["rows"]), value, f"{trial['loss']:.3f}", f"{trial['updates']:,}", style=style)
    return table


def with_whom(rows: Mapping[str, int]) -> str:
    """The tasks of a trial."""
    return " + ".join(rows) or "nothing"


def rated(rating: Mapping[str, JSON]) -> str:
    """A rating; none where a way to choose does not rate."""
    return "–" if rating["score"] is None else _short(rating["score"])


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")


def between(rating: Mapping[str, JSON]) -> str:
    """The interval of a rating, where one is known."""
    return f"[{_short(rating['low'])}, {_short(rating['high'])}]" if "low" in rating else "–"


def warning(effect: Mapping[str, JSON], metric: str) -> str:
    """What is said of a candidate that hurts."""
    beside = f" with {', '.join(effect['beside'])}" if effect["beside"] else ""
    delta, low, high = (100 * effect[name] for name in ("delta", "low", "high"))
    return (
        f"{effect['name']} hurts: learned beside the task{beside}, it costs {-delta:.1f} points of {metric} "
        f"[{low:.1f}, {high:.1f}] on rows that were kept back."
    )


def agreement(stability: JSON) -> str:
    """How much seeds agree on the ranking, where several were asked."""
    if not stability:
        return ""
    best = f", the best is the same in {100 * stability['overlap']['1']:.0f} % of pairs" if stability["overlap"] else ""
    return f"Rankings of two seeds agree with a tau of {_short(stability['tau'])}{best}."


def cost(told: Mapping[str, JSON]) -> str:
    """What choosing took."""
    if not told["trainings"]:
        return "Choosing took no training."
    return (
        f"Choosing took {plural(told['trainings'], 'training')} with {plural(told['seeds'], 'seed')}, "
        f"{duration(told['seconds'])} in all. {plural(told['kept_back'], 'training row')} were kept back to judge by."
    )
