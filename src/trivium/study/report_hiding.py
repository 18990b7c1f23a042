"""What was hidden, as the report and the terminal say it: rows of tables, shades of words, a policy's verdict."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trivium.core import JSON
from trivium.study.report_text import NOTHING, number, plural, short

SHADES = 5
MOST_ARMS = 8
MOST_PAIRS = 12
MOST_WEIGHTS = 12
MOST_WORDS = 8
NONE = "none stands out"
GROUPS = {  # what words are grouped by, the column's head, and what the lifts of the groups show
    "classes": ("class of word", "kinds of words"),
    "bands": ("frequency in these texts", "frequent and rare words"),
    "entities": ("named entity", "names"),
}


@dataclass(frozen=True)
class Word:
    """A word of a text that is shown.

    Attributes:
        before: What stands between it and the word before it.
        written: How it is written.
        shade: How likely it is hidden, from 0 (hardly ever) to ``SHADES`` (nearly always).
        often: Whether it is hidden more than twice as often as the words are on the mean.
        said: The same for who points at it.
    """

    before: str
    written: str
    shade: int
    often: bool
    said: str


@dataclass(frozen=True)
class Text:
    """A text that is shown, and how many of its words are left out at the end."""

    words: tuple[Word, ...]
    left_out: int


@dataclass(frozen=True)
class Lifts:
    """How much more than others the words of each group are hidden, by every arm.

    Attributes:
        head: What the groups are.
        shows: What can be seen from them.
        rows: Of each group its name, its share of the words, some of its words, and of each arm its lift and that as a
            share of the largest.
    """

    head: str
    shows: str
    rows: tuple[tuple[str, float, str, tuple[tuple[str, float], ...]], ...]


@dataclass(frozen=True)
class Learned:
    """A policy: what was said of it at the end, its weights with how large each is beside the largest, its history."""

    arm: str
    sentence: str
    weights: tuple[tuple[str, str, float], ...]
    history: JSON


@dataclass(frozen=True)
class Hiding:
    """What a study's arms hid.

    Attributes:
        arms: Which arms are shown, those that hide with a rule or a policy first.
        left_out: How many more there are.
        shares: Of each arm: its share of words and of tokens hidden, and its most lifted and most avoided words.
        by: Who says what classes words are of.
        looked: How many texts and draws that rests on.
        lifts: By class, by frequency, and by entity if somebody knows them.
        texts: Of each arm that does not hide at random, some texts.
        pairs: Of two arms, their names and overlaps, in percent: the same draws, own draws, chance; the most alike
            first.
        learned: What is known of the policies that were learned.
    """

    arms: tuple[str, ...]
    left_out: int
    shares: tuple[tuple[str, str, str, str, str], ...]
    by: str
    looked: str
    lifts: tuple[Lifts, ...]
    texts: tuple[tuple[str, tuple[Text, ...]], ...]
    pairs: tuple[tuple[str, str, str, str, str], ...]
    learned: tuple[Learned, ...]


def hiding_rows(found: Mapping[str, JSON], overlaps: Sequence[JSON], texts: int = 3, words: int = 40) -> Hiding | None:
    """The rows of the report; none where nothing was looked at.

    Args:
        found: What ``hiding.describe`` says of each arm's masker.
        overlaps: Of each two arms ``a`` and ``b``, what ``hiding.overlap`` says.
        texts: How many texts of an arm are shown at most.
        words: How many words of a text.
    """
    found = {arm: about for arm, about in found.items() if about}
    if not found:
        return None
    shown = {arm: found[arm] for arm in list(found)[:MOST_ARMS]}
    pairs = [pair for pair in overlaps if pair["a"] in shown and pair["b"] in shown]
    most = max(about["sample"]["texts"] for about in shown.values())
    least = min(about["sample"]["texts"] for about in shown.values())
    return Hiding(
        arms=tuple(shown),
        left_out=len(found) - len(shown),
        shares=tuple((arm, *share_of(about), *top_words(about)) for arm, about in shown.items()),
        by=next(iter(shown.values()))["classes_by"],
        looked=plural(most, "training text") + (f" (of costly maskers {least})" if least < most else ""),
        lifts=tuple(filter(None, (_lifts(shown, key) for key in GROUPS))),
        texts=tuple((arm, shown_texts(about, texts, words)) for arm, about in shown.items() if not about["random"]),
        pairs=tuple(map(pair_row, sorted(pairs, key=alikeness)[:MOST_PAIRS])),
        learned=tuple(one for arm, about in shown.items() if (one := _learned(arm, about))),
    )


def share_of(about: JSON) -> tuple[str, str]:
    """The shares of words and of tokens that are hidden."""
    return percent(about["share"]["words"]), percent(about["share"]["tokens"])


def percent(value: JSON) -> str:
    """A share in percent.

    >>> percent(0.1502), percent(None)
    ('15.0 %', '–')
    """
    found = number(value)
    return NOTHING if found is None else f"{100 * found:.1f} %"


def times(value: JSON) -> str:
    """A lift.

    >>> times(2.751), times(0.042), times(0.0)
    ('2.75', '0.04', '0')
    """
    found = number(value)
    return NOTHING if found is None else "0" if found == 0 else f"{found:.2f}"


def top_words(about: JSON, many: int = MOST_WORDS) -> tuple[str, str]:
    """The words that are hidden much more and much less than others, with their lifts."""
    both = (about["lifted"][:many], about["avoided"][:many])
    lifted, avoided = (
        " · ".join(f"{short(row['word'], 24)}\N{NO-BREAK SPACE}×{times(row['lift'])}" for row in rows) for rows in both
    )
    return lifted or NONE, avoided or NONE


def shown_texts(about: JSON, texts: int, words: int) -> tuple[Text, ...]:
    """The first texts, of each the first words."""
    share = about["share"]["words"]
    often = min(2 * share, (1 + share) / 2)
    return tuple(
        Text(
            tuple(_word(*triple, often=often) for triple in text["words"][:words]),
            text["left_out"] + len(text["words"][words:]),
        )
        for text in about["texts"][:texts]
    )


def _word(before: str, written: str, chance: float, *, often: float) -> Word:
    before = " ".join(f"|{before}|".split())[1:-1]  # on one line
    said = f"hidden in {100 * chance:.0f} % of draws"
    return Word(before, short(written, 40), min(SHADES, int(SHADES * chance + 0.5)), chance > often, said)


def _lifts(found: Mapping[str, JSON], key: str) -> Lifts | None:
    """One row for each group that any arm has; shares and examples are those of the arm that was looked at longest."""
    longest = max(found.values(), key=lambda about: about["sample"]["words"])
    rows = {arm: {row["name"]: row for row in about[key]} for arm, about in found.items()}
    if not longest[key]:
        return None
    largest = max(row["lift"] for of in rows.values() for row in of.values()) or 1.0

    def cell(arm: str, name: str) -> tuple[str, float]:
        lift = rows[arm][name]["lift"] if name in rows[arm] else None
        return times(lift), (lift or 0.0) / largest

    return Lifts(
        *GROUPS[key],
        tuple(
            (
                row["name"],
                row["share"],
                " · ".join(row.get("examples") or []),
                tuple(cell(arm, row["name"]) for arm in rows),
            )
            for row in longest[key]
        ),
    )


def alikeness(pair: JSON) -> tuple[float, str, str]:
    """For sorting pairs of arms: what they share beyond chance in draws of their own, the most first."""
    beyond = (number(pair["apart"]) or 0.0) - (number(pair["chance"]) or 0.0)
    return -beyond, pair["a"], pair["b"]


def pair_row(pair: JSON) -> tuple[str, str, str, str, str]:
    """Two arms, and their overlap with the same draws, with own draws, and by chance."""
    return pair["a"], pair["b"], percent(pair["jaccard"]), percent(pair["apart"]), percent(pair["chance"])


def _learned(arm: str, about: JSON) -> Learned | None:
    if not (about["verdict"] or about["weights"] or about["learning"]):
        return None
    return Learned(arm, policy_sentence(about["verdict"]), weight_rows(about["weights"]), about["learning"])


def weight_rows(weights: Mapping[str, float]) -> tuple[tuple[str, str, float], ...]:
    """The largest weights: names, values, and their size as a share of the largest."""
    rows = [(name, value) for name, value in weights.items() if abs(value) >= 5e-5]
    rows = sorted(rows, key=lambda row: -abs(row[1]))[:MOST_WEIGHTS]
    largest = max((abs(value) for _, value in rows), default=0.0) or 1.0
    return tuple((name, _signed(value), abs(value) / largest) for name, value in rows)


def policy_sentence(verdict: JSON) -> str:
    """A learned policy's verdict in one sentence, with its interval; empty if there is none.

    >>> policy_sentence({"verdict": "helped", "delta": 0.0123, "low": 0.002, "high": 0.0226, "episodes": 12})
    'The policy did better than random masking: +0.0123 nats a row in 12 fresh episodes (95 % interval [+0.002, +0.0226]).'
    """  # noqa: E501
    if not verdict:
        return ""
    numbers = f"{_signed(verdict['delta'])} nats a row in {plural(verdict['episodes'], 'fresh episode')}"
    within = f"95 % interval [{_signed(verdict['low'])}, {_signed(verdict['high'])}]"
    if verdict["verdict"] in ("helped", "hurt"):
        said = "better" if verdict["verdict"] == "helped" else "worse"
        return f"The policy did {said} than random masking: {numbers} ({within})."
    seen = number(verdict.get("smallest_detectable"))
    seen_or_not = f"; so many episodes see an effect of {seen:.3g} in four of five cases" if seen is not None else ""
    return f"No evidence that the policy is better or worse than random masking: {numbers} ({within}{seen_or_not})."


def _signed(value: JSON) -> str:
    found = number(value)
    if found is None:
        return NOTHING
    return "0" if math.isclose(found, 0, abs_tol=5e-5) else f"{found:+.3g}".replace("-", "−")
