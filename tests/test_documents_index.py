"""The index against a BM25 written down plainly, by hand, and against itself cut up differently."""

import math
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium.documents import index as index_module
from trivium.documents import shards as shards_module
from trivium.documents.index import Hits, Index

WORDS = st.lists(st.sampled_from(["ant", "bee", "cat", "dog", "eel", "fox", "gnu"]), max_size=9).map(" ".join)


def plain_bm25(texts: list[str], query: str, k1: float = 1.2, b: float = 0.75) -> list[float]:
    """Every document's score, term by term as in the textbook, sharing no code with the index."""
    documents = [re.findall(r"\w+", text.lower()) for text in texts]
    average = sum(map(len, documents)) / len(documents) or 1.0
    scores = [0.0] * len(documents)
    for word in re.findall(r"\w+", query.lower()):
        holders = sum(word in document for document in documents)
        idf = math.log(1 + (len(documents) - holders + 0.5) / (holders + 0.5))
        for i, document in enumerate(documents):
            tf = document.count(word)
            scores[i] += idf * tf / (tf + k1 * (1 - b + b * len(document) / average)) if tf else 0.0
    return scores


def hits(index: Index, queries: list[str], k: int, threads: int | None = None) -> Hits:
    found = list(index.search(queries, k, threads=threads))
    return Hits(np.concatenate([f.ids for f in found]), np.concatenate([f.scores for f in found]))


@settings(max_examples=80, deadline=None)
@given(
    texts=st.lists(WORDS, min_size=1, max_size=12),
    queries=st.lists(WORDS, min_size=1, max_size=4),
    k=st.integers(1, 15),
    k1=st.sampled_from([0.0, 0.9, 1.2, 5.0]),
    b=st.sampled_from([0.0, 0.4, 0.75, 1.0]),
)
def test_search_finds_what_plain_bm25_finds(texts: list[str], queries: list[str], k: int, k1: float, b: float) -> None:
    ids, scores = hits(Index.build(texts, k1, b), queries, k)
    for query, found, score in zip(queries, ids, scores, strict=True):
        expected = np.array(plain_bm25(texts, query, k1, b))
        n = min(k, int((expected > 0).sum()))
        assert len(set(found[:n])) == n
        assert (found[n:] == -1).all()
        assert (score[n:] == 0).all()
        np.testing.assert_allclose(score[:n], expected[found[:n]], rtol=1e-5)
        np.testing.assert_allclose(score[:n], np.sort(expected)[::-1][:n], rtol=1e-5)
        order = list(zip(-score[:n], found[:n], strict=True))
        assert order == sorted(order), "score descending, then id ascending"


def test_scores_worked_out_by_hand() -> None:
    # 3 documents of 3, 2 and 4 words, so avgdl = 3; "a" and "b" each occur in 2: idf = ln(1 + 1.5 / 2.5) = ln 1.6.
    # k1(1 - b + b|d|/avgdl) = 1.2, 0.9, 1.5. Scores: (2/3.2 + 1/2.2) ln 1.6, (1/1.9) ln 1.6, (3/4.5) ln 1.6.
    ids, scores = hits(Index.build(["a a b", "a c", "b b b c"]), ["a b"], 3)
    assert ids.tolist() == [[0, 2, 1]]
    np.testing.assert_allclose(scores, [[0.5073903, 0.3133358, 0.2473703]], rtol=1e-6)


def test_a_word_of_every_document_still_counts() -> None:
    # The older idf, ln((N - n + .5) / (n + .5)), is negative here; Lucene's is ln(1 + .5 / 4.5).
    ids, scores = hits(Index.build(["a"] * 4), ["a"], 4)
    assert ids.tolist() == [[0, 1, 2, 3]]
    np.testing.assert_allclose(scores, math.log(1 + 0.5 / 4.5) / 2.2, rtol=1e-6)


def test_without_k1_neither_repeats_nor_length_count() -> None:
    _, scores = hits(Index.build(["a", "a a a", "a b b b", "b"], k1=0.0), ["a"], 3)
    assert len(set(scores[0])) == 1


def test_without_b_length_does_not_count() -> None:
    _, scores = hits(Index.build(["a", "a b b b", "b"], b=0.0), ["a"], 2)
    assert scores[0, 0] == scores[0, 1]


def test_a_word_asked_for_twice_counts_twice() -> None:
    index = Index.build(["a b", "b c", "c d"])
    once, twice, other = (hits(index, [q], 1).scores[0, 0] for q in ("a", "a a", "d"))
    assert twice == 2 * once
    assert hits(index, ["a a d"], 1).scores[0, 0] == max(twice, other)


def test_case_and_signs_do_not_matter() -> None:
    index = Index.build(["The EGFR-mutant cells.", "nothing of it"])
    assert hits(index, ["egfr; CELLS?"], 2).ids.tolist() == [[0, -1]]


def test_equal_documents_come_in_order_of_id() -> None:
    ids, _ = hits(Index.build(["x", "a b", "a b", "b", "a b", "a b"]), ["a b a"], 3)
    assert ids.tolist() == [[1, 2, 4]]


@pytest.mark.parametrize("texts", [[], [""], ["", "..."]])
def test_nothing_is_found_where_nothing_is(texts: list[str]) -> None:
    ids, scores = hits(Index.build(texts), ["a", "", "!"], 5)
    assert ids.shape == scores.shape == (3, len(texts))
    assert (ids == -1).all()


def test_empty_documents_keep_their_ids_and_shorten_the_average() -> None:
    texts = ["", "a b", "", "a"]
    ids, scores = hits(Index.build(texts), ["a", "", "unknown"], 9)
    assert ids.tolist() == [[3, 1, -1, -1], [-1] * 4, [-1] * 4]
    expected = plain_bm25(texts, "a")
    np.testing.assert_allclose(scores[0], [expected[3], expected[1], 0, 0], rtol=1e-6)


def test_no_query_no_hits() -> None:
    assert sum(len(found.ids) for found in Index.build(["a"]).search([], 3)) == 0


def some_texts(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    vocabulary = np.array([f"w{i}" for i in range(60)])
    return [" ".join(vocabulary[rng.zipf(1.5, rng.integers(0, 12)) % 60]) for _ in range(n)]


def test_neither_threads_nor_blocks_change_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, queries = some_texts(500), some_texts(70, seed=1)
    whole = hits(Index.build(texts), queries, 20, threads=1)
    monkeypatch.setattr(shards_module, "_BLOCK", 7)
    monkeypatch.setattr(index_module, "_BATCH", 3)
    monkeypatch.setattr(index_module, "_HITS", 4000)
    for threads in (1, 2, 5):
        ids, scores = hits(Index.build(texts), queries, 20, threads)
        np.testing.assert_array_equal(ids, whole.ids)
        np.testing.assert_array_equal(scores, whole.scores)


def test_a_corpus_of_several_spans_is_searched_whole() -> None:
    """Documents are scored 8,192 at a time; here are five such spans, scored in one go with a matrix of counts."""
    n, words = 40_000, np.array(["a", "b", "c", "d"])
    counts = np.random.default_rng(2).integers(0, 4, (n, 4))
    lengths = counts.sum(1)
    idf = np.log1p((n - (counts > 0).sum(0) + 0.5) / ((counts > 0).sum(0) + 0.5))
    weights = idf * counts / (counts + 1.2 * (0.25 + 0.75 * lengths / lengths.mean())[:, None])
    index = Index.build([" ".join(np.repeat(words, row)) for row in counts])
    for query, repeats in {"a": [1, 0, 0, 0], "b d d": [0, 1, 0, 2], "a b c d": [1, 1, 1, 1]}.items():
        (ids, scores), expected = hits(index, [query], 3000), weights @ repeats
        np.testing.assert_allclose(scores[0], np.sort(expected)[::-1][:3000], rtol=1e-6)
        np.testing.assert_allclose(scores[0], expected[ids[0]], rtol=1e-6)
        assert len(set(ids[0].tolist())) == 3000
        ties = np.diff(scores[0]) == 0
        assert ties.any()
        assert (np.diff(ids[0])[ties] > 0).all()


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(WORDS, min_size=2, max_size=8), query=WORDS)
def test_shared_words_come_in_the_order_of_what_they_add(texts: list[str], query: str) -> None:
    index = Index.build(texts)
    for i, text in enumerate(texts):
        shared = index.shared(query, text)
        assert set(shared) == set(query.split()) & set(text.split())
        repeat = Counter(query.split())
        alone = [plain_bm25(texts, " ".join([word] * repeat[word]))[i] for word in shared]
        assert all(a >= b * (1 - 1e-6) for a, b in pairwise(alone))


def test_of_many_shared_words_eight_are_named() -> None:
    text = " ".join(f"w{i}" for i in range(30))
    assert len(Index.build([text, "other"]).shared(text, text)) == 8
