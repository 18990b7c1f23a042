"""What `trivium masker` shows: texts with a shade for how often each word is hidden, lifts, and what arms share."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trivium.core import JSON
from trivium.study.report_hiding import (
    GROUPS,
    Word,
    alikeness,
    pair_row,
    percent,
    policy_sentence,
    share_of,
    shown_texts,
    times,
    top_words,
    weight_rows,
)
from trivium.study.report_text import plural, short

_TEXTS = 4
_BAR = 24  # columns
_STYLES = ("", "on grey23", "on #5f3a00", "black on #af7000", "black on #ff9f00", "bold black on #ffd75f")


def print_hiding(told: JSON, console: Console) -> None:
    """Print what the arms of a study hide.

    Args:
        told: As ``runner.choose_maskers`` returns it.
        console: Where to. Where it has no colours, words that are hidden often stand in ‹angles›.
    """
    if not told["arms"]:
        console.print("No arm hides anything: no stage fills gaps.")
    for arm, about in told["arms"].items():
        console.print(Text(f"{arm}: {_kind(about['masker'])}", style="bold"), soft_wrap=True)
        for part in _arm(about, plain=console.color_system is None):
            console.print(Padding(part, (0, 0, 0, 2)))
        console.print()
    if told["overlap"]:
        console.print(Text("overlap: what two maskers hide of the same text, as a share of what either hides"))
        console.print(Padding(_overlap(told["overlap"]), (0, 0, 0, 2)))


def _kind(masker: Mapping[str, JSON]) -> str:
    plain = [f"{key} {value}" for key, value in masker.items() if key in ("rate", "unit", "temperature")]
    return f"{masker['kind']} ({', '.join(plain)})" if plain else str(masker["kind"])


def _arm(about: JSON, *, plain: bool) -> Iterator[Text | Table | str]:
    words, tokens = share_of(about)
    sample = about["sample"]
    looked = f"{plural(sample['texts'], 'text')}, {plural(sample['draws'], 'draw')} of each"
    yield Text(f"hides {words} of the words, {tokens} of the tokens ({looked})")
    if about["verdict"]:
        yield Text(policy_sentence(about["verdict"]))
    yield ""
    for shown in shown_texts(about, _TEXTS, 60):
        yield _heat(shown.words, shown.left_out, plain=plain)
        yield ""
    yield Text(_legend(plain=plain), style="dim")
    for key, (head, _) in GROUPS.items():
        if about[key]:
            by = f" ({about['classes_by']})" if key == "classes" else ""
            yield ""
            yield Text(f"lift by {head}{by}")
            yield _lifts(about[key])
    yield ""
    for name, said in zip(("most lifted", "most avoided"), top_words(about, 12), strict=True):
        yield Text(f"{name:<13} {said}")
    if about["weights"]:
        rows = weight_rows(about["weights"])
        yield Text("weights       " + ", ".join(f"{name} {value}" for name, value, _ in rows))


def _heat(words: Sequence[Word], left_out: int, *, plain: bool) -> Text:
    """A text; the more often a word is hidden, the stronger its shade."""
    line = Text()
    for word in words:
        line.append(word.before)
        written = word.written or "␣"
        if plain:
            line.append(f"‹{written}›" if word.often else written)
        else:
            line.append(written, f"{_STYLES[word.shade]}{' underline' if word.often else ''}".strip())
    if left_out:
        line.append(f" … {plural(left_out, 'more word')}", "dim")
    return line


def _legend(*, plain: bool) -> str:
    mark = "in ‹angles›" if plain else "the brighter, the more often hidden; underlined"
    return f"{mark}: more than twice as often as words are on the mean"


def _lifts(rows: Sequence[JSON]) -> Table:
    """A bar for each group; the line is where random masking is."""
    most = max(2.0, *(row["lift"] for row in rows))
    table = Table.grid(padding=(0, 2))
    for column in range(5):
        table.add_column(justify="right" if column in (1, 3) else "left", no_wrap=column < 4)
    for row in rows:
        examples = " · ".join(row.get("examples") or [])
        table.add_row(row["name"], times(row["lift"]), bar(row["lift"], most), percent(row["share"]), Text(examples))
    return table


def bar(lift: float, most: float) -> Text:
    """A lift as a bar, with a line where random masking is.

    >>> bar(2.0, 4.0).plain
    '█████│██████            '
    """
    filled, one = round(_BAR * lift / most), min(_BAR, round(_BAR / most)) - 1
    return Text("".join("│" if i == one else "█" if i < filled else " " for i in range(_BAR)))


def _overlap(pairs: Sequence[JSON]) -> Table:
    table = Table("maskers", "same draws", "own draws", "by chance", box=None, padding=(0, 2, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    for a, b, same, apart, chance in map(pair_row, sorted(pairs, key=alikeness)):
        table.add_row(Text(f"{short(a, 24)} and {short(b, 24)}"), same, apart, chance)
    return table
