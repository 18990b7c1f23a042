"""Words in bulk are the words one by one, in every script."""

import re
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium.data import words
from trivium.data.analyzer import Tokens, hashed

QUICK = settings(max_examples=150, deadline=None)
TEXTS = st.lists(st.text(max_size=80), max_size=6)


def split(tokens: Tokens) -> list[list[int]]:
    return [tokens.hashes[a:b].tolist() for a, b in zip(tokens.ends[:-1], tokens.ends[1:], strict=True)]


def agree(found: list[list[int]], expected: list[list[str]]) -> None:
    """Equal names where, and only where, words are equal."""
    assert [len(one) for one in found] == [len(one) for one in expected]
    names = [name for one in found for name in one]
    plain = [word for one in expected for word in one]
    pairs = set(zip(names, plain, strict=True))
    assert len(pairs) == len(set(names)) == len(set(plain))


@QUICK
@given(TEXTS)
def test_bulk_is_one_by_one(texts: list[str]) -> None:
    agree(split(hashed(texts)), [words(text) for text in texts])


@QUICK
@given(TEXTS)
def test_with_signs_it_is_what_a_regular_expression_finds(texts: list[str]) -> None:
    expected = [[words(run)[0] if words(run) else run for run in re.findall(r"\w+|[^\w\s]+", t)] for t in texts]
    agree(split(hashed(texts, signs=True)), expected)


def test_every_character_there_is() -> None:
    codes = np.random.default_rng(0).permutation([c for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000])
    texts = ["".join(map(chr, codes[i : i + 40])) for i in range(0, len(codes), 40)]
    agree(split(hashed(texts)), [words(text) for text in texts])


@pytest.mark.parametrize("text", ["İstanbul", "ΟΔΟΣ οδος οδοσ", "Straße STRASSE", "ǅ ǆ", "Ω Ω"])
def test_letters_whose_case_is_difficult(text: str) -> None:
    agree(split(hashed([text, text.lower()])), [words(text), words(text.lower())])


def test_a_slice_of_an_array_is_read_where_it_lies() -> None:
    array = pa.array(["never read", "a b", "", "é c"], pa.large_string())
    assert split(hashed(array.slice(1))) == split(hashed(["a b", "", "é c"]))
    assert split(hashed(array.slice(1, 2))) == split(hashed(["a b", ""]))
    assert split(hashed(array.slice(0, 0))) == []


def test_no_text_no_tokens() -> None:
    assert hashed([]).ends.tolist() == [0]
    assert hashed(["", " .. "]).ends.tolist() == [0, 0, 0]
