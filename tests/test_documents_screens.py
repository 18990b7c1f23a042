"""The screens: planted leaks are all found, planted innocents are all kept, and every drop is accounted for."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import tiny_study
from trivium.config import build, parse_config
from trivium.core import Corpus, Queries, Selection, Split, Task, digest
from trivium.data import count_words, words
from trivium.documents import Ranking, select_documents
from trivium.documents.heldout import HeldOut, _places, words_of
from trivium.documents.screens import REASONS, Screening, Screens, Sketches
from trivium.errors import ConfigError, DataError
from trivium.study.plan import make_plan
from trivium.study.runner import choose_documents

VOCABULARY = [f"{a}{b}{c}" for a in "bdfgkl" for b in "aeiou" for c in "mnprst"]  # 180 words
OFF = Screens(duplicates=False, near_duplicates=None, contamination=False)


@dataclass(frozen=True)
class Listed:
    """The documents as they stand."""

    seeded: ClassVar[bool] = False
    max_documents: int | None = None

    def rank(self, corpus: Corpus, queries: Queries, rng: np.random.Generator, progress: Any = None) -> Ranking:
        n = len(corpus)
        return Ranking(np.arange(n), np.zeros(n), np.arange(n), np.full(n, -1))


def corpus_of(texts: Sequence[str]) -> Corpus:
    table = pa.table(
        {
            "text": pa.array(texts, pa.large_string()),
            "source": pa.array(["here"] * len(texts)).dictionary_encode(),
            "words": pa.array([count_words(text) for text in texts], pa.int32()),
            "file": pa.array(["shelf.jsonl"] * len(texts)).dictionary_encode(),
            "row": pa.array(range(1, len(texts) + 1), pa.int64()),
        }
    )
    return Corpus("shelf", digest(texts), table)


def task_of(
    dev: Sequence[str] = (),
    test: Sequence[str] = (),
    train: Sequence[str] = ("to begin with",),
    pairs: dict[str, Sequence[str]] | None = None,
) -> Task:
    """A task whose rows are numbered from 11 in dev and from 101 in test; labels are null where nobody may look."""
    tables: dict[Split, pa.Table] = {}
    splits: dict[Split, tuple[Sequence[str], int]] = {"train": (train, 1), "dev": (dev, 11), "test": (test, 101)}
    for split, (texts, first) in splits.items():
        columns = {
            "text": pa.array(texts, pa.string()),
            "label": pa.array([0 if split == "train" else None] * len(texts), pa.int64()),
            "row": pa.array(range(first, first + len(texts)), pa.int64()),
        }
        if pairs is not None:
            columns["text_pair"] = pa.array(pairs[split], pa.string())
        tables[split] = pa.table(columns)
    return Task("toy", "classify", "accuracy", ("no", "yes"), tables)


def passage(rng: np.random.Generator, size: int) -> list[str]:
    return [str(word) for word in rng.choice(VOCABULARY, size)]


def select(texts: Sequence[str], task: Task, screens: Screens | None = None, most: int | None = None) -> Selection:
    return select_documents(corpus_of(texts), task, Listed(most), screens=screens or Screens())


def left_out(selection: Selection) -> dict[str, int]:
    return {reason: selection.how["counts"][reason] for reason in REASONS}


# ---- contamination: what is found


def exact(text: list[str], rng: np.random.Generator) -> str:
    return " ".join(text) + " Quux."


def in_other_clothes(text: list[str], rng: np.random.Generator) -> str:
    return ", ".join(word.upper() for word in text) + " -- quux!"


def in_wide_letters(text: list[str], rng: np.random.Generator) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if c != " " else c for c in " ".join(text)) + " quux"


def in_a_long_document(text: list[str], rng: np.random.Generator) -> str:
    return " ".join([*passage(rng, 700), *text, *passage(rng, 900)])


def edited(text: list[str], rng: np.random.Generator) -> str:
    """Two words are others; of 40, that leaves 13 in a row wherever they stand."""
    places = rng.choice(len(text), 2, replace=False)
    return " ".join("quux" if i in places else word for i, word in enumerate(text))


def edited_in_a_long_document(text: list[str], rng: np.random.Generator) -> str:
    return " ".join([*passage(rng, 300), edited(text, rng), *passage(rng, 300)])


def the_first_half(text: list[str], rng: np.random.Generator) -> str:
    return " ".join([*text[: len(text) // 2 + 4], *passage(rng, 30)])


HIDING = [exact, in_other_clothes, in_wide_letters, in_a_long_document, edited, edited_in_a_long_document,
          the_first_half]  # fmt: skip


@pytest.mark.parametrize("hide", HIDING)
@pytest.mark.parametrize("split", ["dev", "test"])
def test_every_planted_leak_is_found_and_said_where(hide: Any, split: Split) -> None:
    rng = np.random.default_rng(3)
    held_out = [passage(rng, int(size)) for size in rng.integers(40, 90, 40)]
    innocent = [" ".join(passage(rng, 60)) for _ in held_out]
    leaks = [hide(text, rng) for text in held_out]
    task = task_of(**{split: [" ".join(text) for text in held_out]})
    selection = select([*innocent, *leaks], task)
    assert selection.ids.tolist() == list(range(len(innocent)))
    assert left_out(selection) == dict.fromkeys(REASONS, 0) | {"contaminated": len(leaks)}
    first = {"dev": 11, "test": 101}[split]
    for i, entry in enumerate(selection.audit):
        document = leaks[i]
        assert (entry["document"], entry["split"], entry["row"]) == (len(innocent) + i, split, first + i)
        assert entry["text"] == document[entry["start"] : entry["end"]]
        assert 8 <= count_words(entry["text"]) <= count_words(document)
        assert (entry["rule"], entry["shared"] >= 1) == ("13-gram", True)


@pytest.mark.parametrize("size", [14, 18, 22, 25, 30, 38, 51, 100])
def test_a_text_edited_so_that_no_13_words_are_left_is_found_by_its_half(size: int) -> None:
    """Every thirteenth word is another: runs of 12 are left, with five 8-grams each."""
    rng = np.random.default_rng(size)
    text = passage(rng, size)
    leak = ["quux" if i % 13 == 12 else word for i, word in enumerate(text)]
    left = sum(max(0, len(run.split()) - 7) for run in " ".join(leak).split("quux"))
    document = " ".join([*passage(rng, 60), *leak, *passage(rng, 60)])
    selection = select([document, "free"], task_of(test=[" ".join(text)]))
    assert selection.ids.tolist() == [1]
    (entry,) = selection.audit
    assert (entry["rule"], entry["shared"]) == ("half", left)
    assert entry["text"] == document[entry["start"] : entry["end"]] == " ".join(text[:12])


@pytest.mark.parametrize(("edits", "size", "share"), [(1, 25, 1.0), (2, 30, 1.0), (3, 40, 1.0), (3, 30, 0.9)])
def test_a_few_edited_words_hide_no_text(edits: int, size: int, share: float) -> None:
    """Wherever they stand; a text of 30 words with three changed can fall into pieces that are all short."""
    rng = np.random.default_rng(edits)
    texts = [passage(rng, size) for _ in range(300)]
    leaks = [changed(rng, text, edits) for text in texts]
    held_out = HeldOut.of(task_of(test=[" ".join(text) for text in texts]))
    found = [overlap is not None for overlap in held_out.look([0] * 300, words_of(leaks))]
    assert np.mean(found) >= share


@pytest.mark.parametrize("size", range(13, 30))
def test_half_of_the_8_grams_is_always_enough(size: int) -> None:
    rng = np.random.default_rng(size)
    text = passage(rng, size)
    run = text[: (size - 6) // 2 + 7]  # the fewest words that hold half of them
    held_out = HeldOut.of(task_of(test=[" ".join(text)]))
    found, missed = held_out.look([0, 0], words_of([" ".join(["quux", *run, "quux"]), " ".join(["quux", *run[:9]])]))
    assert found is not None
    assert missed is None


@pytest.mark.parametrize("size", range(8, 13))
def test_of_a_short_text_eight_words_in_a_row_are_found(size: int) -> None:
    rng = np.random.default_rng(size)
    text, before, after = passage(rng, size), passage(rng, 50), passage(rng, 50)
    for first in range(size - 7):
        document = " ".join([*before, *text[first : first + 8], "quux", *after])
        selection = select([document, "free"], task_of([" ".join(text)]))
        assert selection.ids.tolist() == [1]
        (entry,) = selection.audit
        assert (entry["rule"], entry["shared"]) == ("8-gram", 1)
        assert entry["text"] == " ".join(text[first : first + 8])


def test_of_a_pair_each_text_is_found_and_both_together() -> None:
    rng = np.random.default_rng(5)
    one, two = passage(rng, 20), passage(rng, 20)
    short, shorter = passage(rng, 7), passage(rng, 6)
    pairs = {"train": ["x"], "dev": [" ".join(two)], "test": [" ".join(shorter)]}
    task = task_of([" ".join(one)], [" ".join(short)], pairs=pairs)
    around = passage(rng, 30)
    texts = [" ".join([*around[:9], *part, *around[9:]]) for part in (one, two, [*short, *shorter])]
    selection = select([*texts, " ".join(around)], task)
    assert selection.ids.tolist() == [3]
    assert [(e["split"], e["row"], e["rule"]) for e in selection.audit] == [
        ("dev", 11, "13-gram"), ("dev", 11, "13-gram"), ("test", 101, "13-gram"),
    ]  # fmt: skip
    assert selection.audit[2]["text"] == " ".join([*short, *shorter])


# ---- contamination: what is kept


def near_misses(text: list[str], rng: np.random.Generator) -> list[str]:
    """What has much of a text of 40 words, and not enough."""
    shuffled = [text[i] for i in rng.permutation(len(text))]
    runs = [word for at in (0, 8, 16, 24) for word in [*text[at : at + 7], "quux"]]
    return [
        " ".join(shuffled),  # the same words
        " ".join(runs),  # four runs of seven of its words
        " ".join([*passage(rng, 20), "quux", *text[5:17], "quux", *passage(rng, 20)]),  # a run of twelve
        " ".join([*text[:12], "quux", *text[20:27], "quux", *passage(rng, 20)]),  # runs of twelve and seven: 19 words
        " ".join([*text[:8], "quux", *text[9:13], "quux", *text[14:18], "quux", *text[19:23], "quux", *text[30:34]]),
    ]


def test_every_planted_innocent_is_kept() -> None:
    rng = np.random.default_rng(4)
    held_out = [passage(rng, 40) for _ in range(30)]
    innocent = [miss for text in held_out for miss in near_misses(text, rng)]
    selection = select(innocent, task_of(test=[" ".join(text) for text in held_out]), Screens(near_duplicates=None))
    assert len(selection) == len(innocent)
    assert selection.audit == ()


@pytest.mark.parametrize("size", range(1, 8))
def test_of_a_text_of_fewer_than_eight_words_only_its_equal_is_left_out(size: int) -> None:
    text = passage(np.random.default_rng(size), size)
    selection = select([" ".join([*text, "quux"]), "!".join(text)], task_of([" ".join(text)]))
    assert selection.ids.tolist() == [0]
    assert left_out(selection) == dict.fromkeys(REASONS, 0) | {"heldout_equal": 1}
    (entry,) = selection.audit
    assert entry == {"document": 1, "split": "dev", "row": 11, "rule": "equal", "shared": None, "start": 0,
                     "end": len("!".join(text)), "text": "!".join(text)}  # fmt: skip


@pytest.mark.parametrize(("having", "kept"), [(9, False), (10, True)])
def test_what_ten_training_texts_have_is_boilerplate(having: int, kept: bool) -> None:
    rng = np.random.default_rng(6)
    line = passage(rng, 16)
    own = [passage(rng, 20) for _ in range(5)]
    train = [" ".join([*passage(rng, 10), *line]) for _ in range(having)] + [" ".join(passage(rng, 20))] * 20
    task = task_of([" ".join([*text, *line]) for text in own], train=train)
    innocent = [" ".join([*passage(rng, 30), *line]) for _ in range(4)]
    leaks = [" ".join([*passage(rng, 9), *text]) for text in own]  # the text without the line is found all the same
    selection = select([*innocent, *leaks, "free"], task)
    assert selection.ids.tolist() == ([0, 1, 2, 3, 9] if kept else [9])


def test_a_training_text_that_is_repeated_is_no_boilerplate() -> None:
    text = " ".join(passage(np.random.default_rng(7), 20))
    selection = select([f"{text} quux", "free"], task_of([text], train=[text] * 50))
    assert selection.ids.tolist() == [1]


def brute(document: list[str], text: list[str]) -> str | None:
    """The rules, spelled out."""

    def grams(of: list[str], n: int) -> set[tuple[str, ...]]:
        return {tuple(of[i : i + n]) for i in range(len(of) - n + 1)}

    if len(text) >= 13 and grams(document, 13) & grams(text, 13):
        return "13-gram"
    if not grams(document, 8) & grams(text, 8):
        return None
    if len(text) < 13:
        return "8-gram"
    left = {i + k for i in range(len(text) - 4) if tuple(text[i : i + 5]) in grams(document, 5) for k in range(5)}
    least = {13: 10, 14: 11, 15: 11}.get(len(text), 12)
    return "half" if len(left) >= max(least, len(text) / 2) else None


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_the_rules_are_what_they_say(data: st.DataObject) -> None:
    """Texts over two letters, so that runs repeat within them, against sets of tuples."""
    letters = st.sampled_from("ab")
    texts = data.draw(st.lists(st.lists(letters, min_size=1, max_size=40), min_size=1, max_size=3))
    document = data.draw(st.lists(letters, min_size=1, max_size=30))
    for text in texts:
        if data.draw(st.booleans()):
            document += text[data.draw(st.integers(0, 10)) :][: data.draw(st.integers(0, 30))]
    held_out = HeldOut.of(task_of([" ".join(text) for text in texts]))
    (found,) = held_out.look([0], words_of([" ".join(document)]))
    rules = [brute(document, text) for text in texts]
    expected = "13-gram" if "13-gram" in rules else next((rule for rule in rules if rule), None)
    if found is None:
        assert expected is None
    else:
        assert found.rule in rules
        assert (found.rule == "13-gram") == (expected == "13-gram")
        entry = held_out.evidence(0, " ".join(document), found)
        run = " ".join(texts[entry["row"] - 11])
        assert f" {entry['text']} " in f" {run} "
        longer = {" ".join(run.split()[i : i + count_words(entry["text"]) + 1]) for i in range(len(run.split()))}
        longest = [part for part in longer if count_words(part) > count_words(entry["text"])]
        assert not any(f" {part} " in f" {' '.join(document)} " for part in longest)


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("aB9_ .-\n\tﬁｔΣς½İéé\u0301\u00a0\u3000…ͺ¨"), max_size=30) | st.text(max_size=20))
def test_every_word_has_its_place_in_the_text(text: str) -> None:
    places = list(_places(text))
    assert len(places) == len(words_of([text]).hashes)
    assert all(0 <= start < end <= len(text) for start, end in places)
    if text.isascii():
        assert [text[start:end].lower() for start, end in places] == words(text)


# ---- near-duplicates


def shingles(text: str) -> set[tuple[str, ...]]:
    of = words(text)
    return {tuple(of[i : i + 5]) for i in range(len(of) - 4)}


def jaccard(a: str, b: str) -> float:
    x, y = shingles(a), shingles(b)
    return len(x & y) / len(x | y)


def changed(rng: np.random.Generator, text: list[str], words_changed: int) -> str:
    places = rng.choice(len(text), words_changed, replace=False)
    return " ".join("quux" if i in places else word for i, word in enumerate(text))


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8])
def test_near_duplicates_agree_with_brute_force_away_from_the_threshold(threshold: float) -> None:
    """Four standard errors of 128 permutations on either side."""
    rng = np.random.default_rng(8)
    originals = [passage(rng, 150) for _ in range(60)]
    copies = [changed(rng, text, int(n)) for text, n in zip(originals, rng.integers(0, 40, 60), strict=True)]
    selection = select([*map(" ".join, originals), *copies], task_of(), Screens(near_duplicates=threshold))
    kept = set(selection.ids.tolist())
    error = 4 * np.sqrt(threshold * (1 - threshold) / 128)
    above = below = 0
    for i, (original, copy) in enumerate(zip(originals, copies, strict=True)):
        similarity = jaccard(" ".join(original), copy)
        if similarity > threshold + error:
            above += 1
            assert 60 + i not in kept
        elif similarity < threshold - error:
            below += 1
            assert 60 + i in kept
    assert set(range(60)) <= kept
    assert min(above, below) >= 2


def test_sketches_estimate_without_bias_and_find_what_is_above_the_threshold() -> None:
    rng = np.random.default_rng(9)
    originals = [passage(rng, 200) for _ in range(150)]
    copies = [changed(rng, text, 4) for text in originals]
    sketches = Sketches(0.8)
    a, b = (np.stack(sketches.of(words_of(texts))) for texts in ([*map(" ".join, originals)], copies))  # type: ignore[arg-type]
    true = np.array([jaccard(" ".join(original), copy) for original, copy in zip(originals, copies, strict=True)])
    estimated = (a == b).mean(1)
    assert abs((estimated - true).mean()) < 4 * np.sqrt(0.16 / 128 / len(true))
    assert np.abs(estimated - true).max() < 5 * np.sqrt(0.16 / 128)
    assert all(sketches.add(sketch) for sketch in a)
    assert [sketches.add(sketch) for sketch in b] == (estimated * 128 < np.ceil(0.8 * 128)).tolist()


def test_room_for_more_sketches_forgets_none() -> None:
    rng = np.random.default_rng(10)
    sketches = Sketches(0.8)
    many = rng.integers(0, 1 << 16, (2500, 128)).astype(np.uint16)
    assert all(sketches.add(sketch) for sketch in many)
    assert not any(sketches.add(sketch) for sketch in many)


def test_of_near_duplicates_the_best_ranked_is_kept_and_the_kept_alone_are_compared() -> None:
    """B is like A, and C like B but not like A: B goes, so C stays."""
    rng = np.random.default_rng(11)
    a = passage(rng, 300)
    b = [*passage(rng, 24), *a[24:]]
    c = [*b[:-24], *passage(rng, 24)]
    texts = [" ".join(text) for text in (a, b, c)]
    assert jaccard(texts[0], texts[1]) > 0.84
    assert jaccard(texts[1], texts[2]) > 0.8
    assert jaccard(texts[0], texts[2]) < 0.74
    assert select(texts, task_of()).ids.tolist() == [0, 2]
    assert select(texts[::-1], task_of()).ids.tolist() == [0, 2]
    assert select(texts[1:] + texts[:1], task_of()).ids.tolist() == [0]


def test_documents_of_fewer_than_five_words_have_no_near_duplicates() -> None:
    texts = ["a b c d", "a b c e", "A, b; c d!", "one", "two", "a b c d e", "a b c d e f"]
    selection = select(texts, task_of(), Screens(near_duplicates=0.4))
    assert selection.ids.tolist() == [0, 1, 3, 4, 5]
    assert left_out(selection) == dict.fromkeys(REASONS, 0) | {"duplicates": 1, "near_duplicates": 1}


# ---- all of them together


@pytest.fixture(scope="module")
def shelf() -> tuple[list[str], Task, dict[str, list[int]]]:
    """Documents of which some are to be left out for one reason each."""
    rng = np.random.default_rng(12)
    held_out = [passage(rng, 30) for _ in range(6)]
    free = [passage(rng, 80) for _ in range(60)]
    short = [passage(rng, 4) for _ in range(6)]
    texts = [*map(" ".join, free), *map(" ".join, short)]
    bad = {
        "heldout_equal": [" ".join(text).upper() for text in held_out[:3]],
        "contaminated": [" ".join([*passage(rng, 40), *text]) for text in held_out[1:]],
        "duplicates": ["; ".join(text) for text in short],
        "near_duplicates": [" ".join([*text[:-3], "quux", *text[-2:]]) for text in free[:8]],
    }
    why = {reason: list(range(len(texts), len(texts := texts + extra))) for reason, extra in bad.items()}
    return texts, task_of([" ".join(t) for t in held_out[:3]], [" ".join(t) for t in held_out[3:]]), why


def test_each_screen_leaves_out_its_own(shelf: tuple[list[str], Task, dict[str, list[int]]]) -> None:
    texts, task, why = shelf
    selection = select(texts, task)
    assert left_out(selection) == {reason: len(ids) for reason, ids in why.items()}
    gone = {i for ids in why.values() for i in ids}
    assert selection.ids.tolist() == [i for i in range(len(texts)) if i not in gone]
    assert selection.how["screens"] == {"duplicates": True, "near_duplicates": 0.8, "contamination": True}
    assert [e["document"] for e in selection.audit] == why["heldout_equal"] + why["contaminated"]


@pytest.mark.parametrize(
    ("off", "reason"),
    [
        ({"duplicates": False}, "duplicates"),
        ({"near_duplicates": None}, "near_duplicates"),
        ({"contamination": False}, "contaminated"),
    ],
)
def test_switching_a_screen_off_changes_its_count_alone(
    shelf: tuple[list[str], Task, dict[str, list[int]]], off: dict[str, Any], reason: str
) -> None:
    texts, task, why = shelf
    selection = select(texts, task, Screens(**off))
    assert left_out(selection) == {name: len(ids) for name, ids in why.items()} | {reason: 0}
    assert set(why[reason]) <= set(selection.ids.tolist())
    assert selection.how["screens"] == asdict(Screens(**off))


def test_equality_with_a_held_out_text_cannot_be_switched_off(
    shelf: tuple[list[str], Task, dict[str, list[int]]],
) -> None:
    texts, task, why = shelf
    selection = select(texts, task, OFF)
    assert selection.ids.tolist() == [i for i in range(len(texts)) if i not in why["heldout_equal"]]
    assert [e["document"] for e in selection.audit] == why["heldout_equal"]


def test_the_first_reason_counts() -> None:
    """Documents that could be left out for several reasons, each below one that is read."""
    rng = np.random.default_rng(13)
    held, own = passage(rng, 30), passage(rng, 50)
    texts = [own, own, [*own[:-1], "quux"], held, held, [*held, "quux"], [*held, "quux"]]
    selection = select([" ".join(text) for text in texts], task_of([" ".join(held)]))
    assert selection.ids.tolist() == [0]
    assert left_out(selection) == {"heldout_equal": 2, "contaminated": 2, "duplicates": 1, "near_duplicates": 1}


def test_the_budget_is_filled_with_the_next_best_and_a_greater_one_adds(
    shelf: tuple[list[str], Task, dict[str, list[int]]],
) -> None:
    texts, task, _ = shelf
    order = np.random.default_rng(14).permutation(len(texts))
    mixed = [texts[i] for i in order]
    everything = select(mixed, task)
    for most in (1, 10, len(everything) - 1, len(everything)):
        selection = select(mixed, task, most=most)
        np.testing.assert_array_equal(selection.ids, everything.ids[:most])
        last = int(selection.ids[-1])
        stopped = int(everything.ids[most]) if most < len(everything) else len(mixed)
        assert sum(left_out(selection).values()) == stopped - most  # all that is ranked before the one that broke it
        assert selection.audit == tuple(e for e in everything.audit if e["document"] < stopped)
        assert last < stopped


def test_blocks_make_no_difference(shelf: tuple[list[str], Task, dict[str, list[int]]]) -> None:
    texts, task, _ = shelf
    whole, pieces = Screening(task, Screens()), Screening(task, Screens())
    ids = np.arange(len(texts))
    at_once = list(whole.may_read(ids, texts))
    one_by_one = [ok for i in ids for ok in pieces.may_read(ids[i : i + 1], texts[i : i + 1])]
    assert at_once == one_by_one
    assert (whole.left_out, whole.audit) == (pieces.left_out, pieces.audit)


def test_a_task_without_held_out_rows_screens_duplicates_alone() -> None:
    selection = select(["one two", "One, two", "three"], task_of())
    assert selection.ids.tolist() == [0, 2]
    sealed = select(["a rope"], task_of(test=["a rope"]).sealed())
    assert (sealed.ids.tolist(), sealed.how["screened"]) == ([0], ["dev"])


def test_nothing_but_leaks_is_an_error() -> None:
    text = " ".join(passage(np.random.default_rng(15), 20))
    with pytest.raises(DataError, match="dev or test texts"):
        select([f"{text} quux"], task_of([text]))


def test_the_audit_is_kept_beside_the_selection(
    shelf: tuple[list[str], Task, dict[str, list[int]]], tmp_path: Path
) -> None:
    texts, task, _ = shelf
    texts = [texts[0] + "\u2028\x85", *texts]  # what some call the end of a line
    selection = select(texts, task)
    selection.save(tmp_path)
    lines = (tmp_path / "audit.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert [json.loads(line) for line in lines] == list(selection.audit)
    assert Selection.load(tmp_path).audit == selection.audit
    assert len(selection.audit) == 8


# ---- the study file


@pytest.mark.parametrize(
    "options",
    [{"near_duplicates": 0}, {"near_duplicates": 1.5}, {"near_duplicates": True}, {"near_duplicates": float("nan")}],
)
def test_a_similarity_is_above_0_and_up_to_1(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="near_duplicates"):
        build(Screens, options, "screens")


def test_screens_come_from_the_study_file_and_are_part_of_the_key(data: Path, tmp_path: Path) -> None:
    study = tiny_study(data)
    study["arms"] = {name: study["arms"][name] for name in ("finetune", "random")}
    for screens, folders in ({}, 1), ({"near_duplicates": 0.8}, 1), ({"duplicates": False, "near_duplicates": None}, 2):
        chosen = choose_documents(parse_config({**study, "screens": screens}, "tiny.yaml"), runs=tmp_path)
        assert set(REASONS) <= set(chosen["random"]["counts"])
        made = list((tmp_path / "tiny" / "artifacts").glob("documents-*"))
        assert len(made) == folders
        assert all((folder / "audit.jsonl").exists() for folder in made)
    with pytest.raises(ConfigError, match="screens: unknown key 'near_duplicate'; did you mean 'near_duplicates'"):
        choose_documents(parse_config({**study, "screens": {"near_duplicate": None}}, "tiny.yaml"), runs=tmp_path)
    with pytest.raises(ConfigError, match="screens: near_duplicates"):
        make_plan(parse_config({**study, "screens": {"near_duplicates": 2}}, "tiny.yaml"))
