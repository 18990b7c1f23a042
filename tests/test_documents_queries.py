"""What of a text is asked, and what is left out of the asking."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium.core import Corpus, Queries
from trivium.data import load_corpus, words
from trivium.documents import BM25
from trivium.documents import bm25 as bm25_module
from trivium.documents import index as index_module
from trivium.documents.index import Hits, Index
from trivium.documents.queries import key_phrases
from trivium.errors import ConfigError

TEXTS = [
    "the cell membrane of a cell",
    "the membrane protein binds the receptor",
    "a receptor of the protein kinase family",
    "the stock market of a city",
    "the city council and the market",
    "kinase kinase kinase",
]


def hits(index: Index, queries: list[str], k: int = 6, **asked: object) -> Hits:
    found = list(index.search(queries, k, **asked))  # type: ignore[arg-type]
    return Hits(np.concatenate([f.ids for f in found]), np.concatenate([f.scores for f in found]))


def same(one: Hits, other: Hits) -> None:
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(one.scores, other.scores)


def test_rake_by_hand() -> None:
    # Phrases: "protein kinase inhibitors", "kinase", "small molecules". "kinase" stands in a phrase of 3 and one of 1:
    # degree 4, frequency 2, weight 2; "protein" and "inhibitors" weigh 3, "small" and "molecules" 2.
    text = "Protein kinase inhibitors of the kinase are small molecules."
    assert key_phrases(text) == ["protein kinase inhibitors", "small molecules", "kinase"]  # 8, 4, 2
    assert key_phrases(text, most=1) == ["protein kinase inhibitors"]


def test_rake_cuts_phrases_at_signs_and_keeps_repeats() -> None:
    assert key_phrases("deep learning, deep learning; NLP") == ["deep learning", "deep learning", "nlp"]
    assert key_phrases("of the and") == []


def test_rake_asks_the_key_phrases_and_a_text_of_stop_words_in_full() -> None:
    index = Index.build(TEXTS)
    same(hits(index, ["the protein of a kinase"], form="rake"), hits(index, ["protein kinase"]))
    same(hits(index, ["the of a"], form="rake"), hits(index, ["the of a"]))


@settings(max_examples=40, deadline=None)
@given(query=st.lists(st.sampled_from(" ".join(TEXTS).split()), max_size=20), n=st.integers(1, 25))
def test_head_asks_the_first_words(query: list[str], n: int) -> None:
    index = Index.build(TEXTS)
    same(hits(index, [" ".join(query), "market"], form="head", length=n), hits(index, [" ".join(query[:n]), "market"]))


@settings(max_examples=40, deadline=None)
@given(query=st.lists(st.sampled_from([*" ".join(TEXTS).split(), "unknown"]), max_size=20), n=st.integers(1, 25))
def test_best_asks_the_words_of_greatest_tf_idf(query: list[str], n: int) -> None:
    index = Index.build(TEXTS)
    idf = {word: np.log1p((6 - df + 0.5) / (df + 0.5)) for word in set(query) if (df := holders(word))}
    weights = {word: query.count(word) * idf[word] for word in idf}
    least = sorted(weights.values(), reverse=True)[:n][-1] if weights else 0
    asked = hits(index, [" ".join(query)], form="best", length=n)
    whole = hits(index, [" ".join(word for word in query if weights.get(word, 0) >= least)])
    some = hits(index, [" ".join(word for word in query if weights.get(word, 0) > least)])
    # words that tie at the end may go either way
    assert some.scores.sum() - 1e-4 <= asked.scores.sum() <= whole.scores.sum() + 1e-4
    if sum(weight >= least for weight in weights.values()) <= n:
        same(asked, whole)


def holders(word: str) -> int:
    return sum(word in words(text) for text in TEXTS)


def test_words_of_too_many_documents_are_not_asked() -> None:
    index = Index.build(TEXTS)
    same(hits(index.pruned(0.8), ["the market of the cell"]), hits(index, ["market of cell"]))  # "the": 5 of 6
    same(hits(index.pruned(5 / 6), ["the market of the cell"]), hits(index, ["the market of the cell"]))
    assert (hits(index.pruned(0.5), ["the the"]).ids == -1).all()


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    monkeypatch.setenv("TRIVIUM_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    vocabulary = np.array([f"w{i}" for i in range(400)])
    texts = [" ".join(vocabulary[rng.zipf(1.3, 40) % 400]) for _ in range(500)]
    (tmp_path / "shelf.txt").write_text("\n\n".join(texts))
    return load_corpus(tmp_path / "shelf.txt")


def test_the_recall_that_is_told_is_the_recall(shelf: Corpus) -> None:
    queries = Queries("t", tuple(shelf.texts(range(60))))
    rng = np.random.default_rng(0)
    exact, pruned = (BM25(per_query=10, max_df=share).rank(shelf, queries, rng) for share in (1.0, 0.2))
    assert "recall" not in exact.counts
    told = pruned.counts["recall"]
    assert told == pytest.approx(np.isin(exact.ids, pruned.ids).mean(), abs=1e-4)  # fewer texts than are judged
    assert 0.2 < told < 1
    assert BM25(per_query=10, max_df=0.9999).rank(shelf, queries, rng).counts["recall"] == 1


@pytest.mark.parametrize("key", ["query_words", "per_query"])
def test_less_than_one_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        BM25(**{key: 0})


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1])
def test_a_share_is_a_share(share: float) -> None:
    with pytest.raises(ConfigError, match="max_df"):
        BM25(max_df=share)


@pytest.mark.parametrize("harm", [False, True])
def test_an_interrupted_search_goes_on_where_it_was(
    shelf: Corpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, harm: bool
) -> None:
    monkeypatch.setattr(index_module, "_MOST", 8)  # queries at a time
    monkeypatch.setattr(bm25_module, "_SECONDS", 0.0)
    queries, rng, selector = Queries("t", tuple(shelf.texts(range(60)))), np.random.default_rng(0), BM25(per_query=10)
    whole = selector.rank(shelf, queries, rng)
    asked: list[int] = []
    ask = Index.ask

    def noted(self: Index, texts: list[str], *form: object) -> object:
        asked.append(len(texts))
        if len(asked) == 4:
            raise KeyboardInterrupt
        return ask(self, texts, *form)  # type: ignore[arg-type]

    monkeypatch.setattr(Index, "ask", noted)
    with pytest.raises(KeyboardInterrupt):
        selector.rank(shelf, queries, rng)
    (saved,) = (tmp_path / "cache" / "searches").glob("*.npz")
    if harm:
        saved.write_bytes(saved.read_bytes()[:100])
    again = selector.rank(shelf, queries, rng)
    assert sum(asked[4:]) == (60 if harm else 60 - 3 * 8)
    for one, other in zip(
        (whole.ids, whole.scores, whole.ranks, whole.queries),
        (again.ids, again.scores, again.ranks, again.queries),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    assert whole.counts == again.counts
    assert not saved.exists()
