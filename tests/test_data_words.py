"""What a word is, when two texts are the same, and where a long document may be cut."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium.data import count_words, fingerprint64, normal, windows, words

QUICK = settings(max_examples=100, deadline=None)
TEXTS = st.text(max_size=200)
# Words, stops, quotes, hyphens and line breaks in any order: what decides where a window ends.
PIECES = st.sampled_from(["one ", "Zwei ", "三", "x1 ", "four ", ". ", '." ', "-", " ", "\n", "。", ", "])
PROSE = st.integers(0, 60).flatmap(lambda n: st.lists(PIECES, min_size=n, max_size=n)).map("".join)


@QUICK
@given(TEXTS)
def test_counting_words_is_the_length_of_the_words(text: str) -> None:
    assert count_words(text) == len(words(text))


@QUICK
@given(TEXTS, TEXTS, st.sampled_from([" ", "\n", "-", "。", "..."]))
def test_words_of_two_texts_are_the_words_of_both(one: str, other: str, between: str) -> None:
    assert words(one + between + other) == words(one) + words(other)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" …— !? ", []),
        ("Straße CAFÉ", ["straße", "café"]),
        ("naïve IL-2 p<0.05", ["naïve", "il", "2", "p", "0", "05"]),
        ("snake_case don't", ["snake_case", "don", "t"]),
        ("東京は晴れ。 ok", ["東京は晴れ", "ok"]),
        ("Привет, МИР", ["привет", "мир"]),
    ],
)
def test_words_by_hand(text: str, expected: list[str]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Hello, world!", "hello world"),
        ("Ｆｕｌｌ　ｗｉｄｔｈ", "full width"),
        ("STRASSE", "straße"),
        ("café", "cafe\N{COMBINING ACUTE ACCENT}"),
        ("ﬁne", "fine"),
        ("a\u00a0b\u200b", "AB"),
        ("“quoted” – dash", '"quoted" - dash'),
    ],
)
def test_the_same_but_for_case_space_and_signs(one: str, other: str) -> None:
    assert normal(one) == normal(other)
    assert fingerprint64(one) == fingerprint64(other)


@pytest.mark.parametrize(
    ("one", "other"), [("cafe", "café"), (":-)", ":-("), ("👍", "👎"), ("5 mg", "6 mg"), ("किताब", "कतब"), ("", "!")]
)
def test_different_texts_stay_different(one: str, other: str) -> None:
    assert normal(one) != normal(other)
    assert fingerprint64(one) != fingerprint64(other)


@QUICK
@given(st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=30))
def test_normal_form_forgets_case_and_what_stands_between_words(text: str) -> None:
    spaced = " , ".join(unicodedata.normalize("NFD", text))
    assert normal(text) == normal(text.casefold()) == normal(f"  {text}!")
    assert normal(spaced) == normal(spaced.replace(" , ", "\n"))


@QUICK
@given(TEXTS)
def test_fingerprints_fit_into_64_bits(text: str) -> None:
    assert 0 <= fingerprint64(text) < 2**64


@QUICK
@given(PROSE, st.integers(1, 6))
def test_windows_lose_nothing_and_none_is_longer_than_allowed(text: str, window: int) -> None:
    pieces = windows(text, window)
    assert [word for piece in pieces for word in words(piece)] == words(text)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    if count_words(text) <= 1.5 * window:
        assert pieces == [text.strip()]
    else:
        assert all(1 <= count_words(piece) <= window for piece in pieces)


@QUICK
@given(st.lists(st.integers(1, 6), min_size=1, max_size=30), st.integers(6, 12))
def test_a_sentence_that_fits_is_never_cut(lengths: list[int], window: int) -> None:
    sentences = [" ".join(["word"] * length) + "." for length in lengths]
    pieces = windows(" ".join(sentences), window)
    assert all(piece.endswith(".") for piece in pieces)
    assert sum(piece.count(".") for piece in pieces) == len(sentences)


@QUICK
@given(PROSE, st.integers(1, 6))
def test_cutting_windows_again_changes_nothing(text: str, window: int) -> None:
    pieces = windows(text, window)
    assert [again for piece in pieces for again in windows(piece, window)] == pieces


@pytest.mark.parametrize(
    ("text", "window", "expected"),
    [
        ("a b c d", 3, ["a b c d"]),  # 4 words are not more than 1.5 windows
        ("a b c d e", 3, ["a b c", "d e"]),
        ("a b. c d e", 3, ["a b.", "c d e"]),
        ('a "b." c d e', 3, ['a "b."', "c d e"]),
        ("a b\nc d e", 3, ["a b", "c d e"]),
        ("e.g. a b. c d e", 3, ["e.g.", "a b.", "c d e"]),  # a full stop and a space end a sentence, always
        ("a 3.5 b c d e", 4, ["a 3.5 b", "c d e"]),
        ("一 二。三 四 五", 3, ["一 二。", "三 四 五"]),
        ("a-b-c-d-e", 2, ["a-b-", "c-d-", "e"]),  # no space to cut at
    ],
)
def test_windows_by_hand(text: str, window: int, expected: list[str]) -> None:
    assert windows(text, window) == expected
