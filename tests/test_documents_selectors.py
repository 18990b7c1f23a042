"""Every selector keeps one contract; DSIR, dense and hybrid do what they say; and the KL reduction measures it."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from conftest import TOPICS, make_task, sentence
from trivium.config import build, choose
from trivium.core import Corpus, Queries, Task, digest
from trivium.data import count_words, words
from trivium.documents import BM25, SELECTORS, Budget, Ranking, Selector, select_documents, vectors
from trivium.documents.dense import Dense, nearest
from trivium.documents.divergence import kl_reduction
from trivium.documents.dsir import DSIR, fitting
from trivium.documents.features import counted, share
from trivium.documents.hybrid import Hybrid
from trivium.errors import ConfigError, DataError
from trivium.training import Encoder, Scratch


def corpus_of(texts: Sequence[str], chunk: int = 7) -> Corpus:
    columns = {
        "text": pa.array(list(texts), pa.large_string()),
        "source": pa.array(["here"] * len(texts)).dictionary_encode(),
        "words": pa.array([count_words(text) for text in texts], pa.int32()),
        "file": pa.array(["shelf.txt"] * len(texts)).dictionary_encode(),
        "row": pa.array(range(1, len(texts) + 1), pa.int64()),
    }
    table = pa.table(columns)
    parts = [table.slice(start, chunk) for start in range(0, len(texts), chunk)]
    return Corpus("shelf", digest(list(texts)), pa.concat_tables(parts))


def rank(selector: Selector, corpus: Corpus, train: Sequence[str], seed: int = 0) -> Ranking:
    return selector.rank(corpus, Queries("toy", tuple(train)), np.random.default_rng(seed))


def same(a: Ranking, b: Ranking) -> bool:
    fields = ("ids", "scores", "ranks", "queries")
    return all(np.array_equal(getattr(a, f), getattr(b, f), equal_nan=True) for f in fields) and a.counts == b.counts


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> str:
    """The smallest BERT, with random weights, in a folder."""
    from transformers import BertConfig, BertModel

    from trivium import seeds

    folder = tmp_path_factory.mktemp("encoder")
    with seeds.torch_scope(0, "tests"):
        model = BertModel(
            BertConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=32,
                max_position_embeddings=64,
            )
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def shelf() -> list[str]:
    """Ordinary documents, the same one twice, and odd ones."""
    rng = np.random.default_rng(5)
    ordinary = [sentence(rng, str(rng.choice(list(TOPICS))), int(rng.integers(3, 40)), 0.3) for _ in range(60)]
    odd = [
        "",
        "   ",
        "!?",
        "\n",
        ":-) " * 9,
        "İİ ΣΑΣ ß ﬁ",
        "日本語 テキスト",
        "🙂🙂",
        "e\u0301 a\u0300",
        "mast " * 900,
        "x" * 5000,
    ]
    return [*ordinary[:30], *odd, *ordinary[30:], ordinary[3], ordinary[3]]


# ---- the contract


@dataclass(frozen=True)
class Longest:
    """A stranger's selector."""

    seeded: ClassVar[bool] = False
    max_documents: int | None = None
    max_tokens: int | None = None
    max_bytes: int | None = None

    def rank(self, corpus: Corpus, queries: Queries, rng: np.random.Generator, progress: Any = None) -> Ranking:
        order = np.argsort(-corpus.words, kind="stable")
        return Ranking(order, corpus.words[order].astype(float), np.arange(len(order)), np.full(len(order), -1))


Make = Callable[..., Selector]


@pytest.fixture(
    params=["bm25", "dsir", "dsir-sum", "dsir-plain", "dense", "hybrid", "hybrid-half", "random", "none", "own"]
)
def make(request: pytest.FixtureRequest, encoder: str) -> Make:
    """Makes the selector as a study file would, with more keys if wanted."""
    options: dict[str, Any] = {
        "bm25": {"kind": "bm25", "per_query": 4},
        "dsir": {"kind": "dsir", "min_words": 2, "buckets": 500},
        "dsir-sum": {"kind": "dsir", "length_norm": False, "temperature": 1.0},
        "dsir-plain": {"kind": "dsir", "noise": False},
        "dense": {"kind": "dense", "encoder": encoder, "per_query": 4, "max_length": 32},
        "hybrid": {"kind": "hybrid", "per_query": 2, "min_words": 1},
        "hybrid-half": {"kind": "hybrid", "per_query": 2, "share": 0.5},
        "random": {"kind": "random"},
        "none": {"kind": "none"},
        "own": {"kind": f"{__name__}:Longest"},
    }[request.param]
    return lambda **more: choose(SELECTORS, options | more, "arms.mine.documents")


@pytest.fixture(scope="module")
def train(task: Task) -> list[str]:
    return task.texts("train")[:20]


def test_each_document_is_ranked_at_most_once_and_every_column_is_as_long(
    make: Make, shelf: list[str], train: list[str]
) -> None:
    corpus, ranking = corpus_of(shelf), rank(make(), corpus_of(shelf), train)
    n = len(ranking.ids)
    assert len(set(ranking.ids.tolist())) == n <= len(corpus)
    assert ((ranking.ids >= 0) & (ranking.ids < len(corpus))).all()
    assert len(ranking.scores) == len(ranking.ranks) == len(ranking.queries) == n
    assert ranking.scores.dtype == np.float64
    assert all(getattr(ranking, column).dtype == np.int64 for column in ("ids", "ranks", "queries"))
    assert ((ranking.queries >= -1) & (ranking.queries < len(train))).all()
    assert (ranking.ranks >= 0).all()
    assert all(type(number) in (int, float) for number in ranking.counts.values())
    for place, text in enumerate(corpus.texts(ranking.ids)):
        assert set(ranking.shared(place, text)) <= set(words(text)) & {word for query in train for word in words(query)}


def test_the_seed_decides_and_nothing_else(make: Make, shelf: list[str], train: list[str]) -> None:
    selector, corpus = make(), corpus_of(shelf)
    first, again, other = (rank(selector, corpus, train, seed) for seed in (0, 0, 1))
    assert same(first, again)
    if not selector.seeded:
        assert same(first, other)
    elif getattr(selector, "noise", True):
        assert not np.array_equal(first.ids, other.ids)


def test_it_does_not_matter_how_the_corpus_lies_in_its_file(make: Make, shelf: list[str], train: list[str]) -> None:
    rankings = [rank(make(), corpus_of(shelf, chunk), train) for chunk in (1, 7, 1000)]
    assert same(rankings[0], rankings[1])
    assert same(rankings[0], rankings[2])


def test_held_out_rows_and_labels_decide_nothing(make: Make, shelf: list[str], task: Task) -> None:
    other = make_task(seed=99)
    rows = task.rows("train")
    labels = rows["label"].take(pa.array(np.random.default_rng(0).permutation(len(rows))))
    tables = {
        "train": rows.set_column(rows.column_names.index("label"), "label", labels),
        "dev": other.rows("dev"),
        "test": other.rows("test"),
    }
    ids = [select_documents(corpus_of(shelf), t, make()).ids for t in (task, replace(task, tables=tables))]
    np.testing.assert_array_equal(*ids)


@pytest.mark.parametrize("key", ["max_documents", "max_tokens", "max_bytes"])
def test_a_budget_is_kept_and_filled(make: Make, shelf: list[str], task: Task, key: str) -> None:
    if "max_documents" not in asdict(make()):  # type: ignore[call-overload]
        with pytest.raises(ConfigError, match=f"unknown key '{key}'"):
            make(**{key: 9})
        return
    limit = {"max_documents": 9, "max_tokens": 150, "max_bytes": 900}[key]
    short = [text for text in shelf if count_words(text) < 100 and len(text) < 1000]
    selection = select_documents(corpus_of(short), task, make(**{key: limit}))
    texts = selection.texts()
    spent = {
        "max_documents": len(texts),
        "max_tokens": sum(map(count_words, texts)),
        "max_bytes": sum(len(text.encode()) for text in texts),
    }[key]
    assert 0.5 * limit < spent <= limit
    assert selection.how["ended_by"] == key


def test_settings_come_back_as_they_were(make: Make) -> None:
    selector = make()
    settings_of: dict[str, Any] = asdict(selector)  # type: ignore[call-overload]
    assert build(type(selector), settings_of, "here") == selector


def test_progress_only_goes_forward_and_arrives(make: Make, shelf: list[str], task: Task) -> None:
    seen: list[float] = []
    select_documents(corpus_of(shelf), task, make(), progress=lambda done, total: seen.append(done / total))
    assert seen == sorted(seen)
    assert seen[-1] == 1


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        ("dsir", {"buckets": 0}, "buckets"),
        ("dsir", {"smoothing": 0.0}, "smoothing"),
        ("dsir", {"temperature": -1.0}, "temperature"),
        ("dsir", {"min_words": 0}, "min_words"),
        ("dsir", {"max_tokens": 0}, "max_tokens"),
        ("dsir", {"smothing": 1.0}, "did you mean 'smoothing'"),
        ("dense", {}, "encoder"),
        ("dense", {"encoder": ""}, "encoder"),
        ("dense", {"encoder": "here", "per_query": 0}, "per_query"),
        ("dense", {"encoder": "here", "max_length": 2}, "max_length"),
        ("hybrid", {"share": 1.5}, "share"),
        ("hybrid", {"per_query": 0}, "per_query"),
        ("hybrid", {"smoothing": -1.0}, "smoothing"),
        ("hybrid", {"max_bytes": 0}, "max_bytes"),
    ],
)
def test_a_wrong_key_is_named(kind: str, options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        choose(SELECTORS, {"kind": kind, **options}, "arms.mine.documents")


# ---- n-grams


def ngrams(text: str) -> list[str]:
    """For texts of words between spaces."""
    found = text.split()
    return [*found, *(f"{a} {b}" for a, b in pairwise(found))]


lines = st.lists(st.sampled_from(["a", "bb", "C", "!!", "ü", "日"]), max_size=8).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(lines, max_size=6), buckets=st.sampled_from([1, 3, 1 << 16]))
def test_every_word_and_every_pair_is_counted_and_none_across_texts(texts: list[str], buckets: int) -> None:
    expected = Counter(gram for text in texts for gram in ngrams(text.lower()))
    counts = counted(texts, buckets)
    assert counts.sum() == expected.total()
    if buckets == 1 << 16:  # so many that none of these meet
        assert sorted(counts[counts > 0].tolist()) == sorted(expected.values())


def test_the_order_of_a_pair_matters_and_a_pair_is_no_word() -> None:
    a, b = (set(np.flatnonzero(counted([text], 1 << 20))) for text in ("up down", "down up"))
    assert len(a & b) == 2
    assert len(a | b) == 4
    assert len(np.flatnonzero(counted(["up up"], 1 << 20))) == 2


def test_buckets_fill_evenly() -> None:
    counts = counted([f"word{i}" for i in range(50_000)], 100)
    assert abs(counts - 500).max() < 5 * np.sqrt(500)


# ---- DSIR


def test_the_weights_of_three_documents_by_hand() -> None:
    """With 1,024 buckets and 1 pseudo-count in all; corpus: a 2, b 2, a·b 1, b·a 1, c 1; task: a 1, b 1, a·b 1."""
    texts, buckets = ["a b", "b a", "c"], 1 << 10
    assert sorted(counted(texts, buckets))[-5:] == [1, 1, 1, 2, 2]
    two, one = (2 + 1 / 1024) / 8, (1 + 1 / 1024) / 8  # the corpus' shares
    single = math.log((1 + two) / 4 / two)
    pair = math.log((1 + one) / 4 / one)
    unseen = math.log(one / 4 / one)
    expected = [(2 * single + pair) / 3, (2 * single + unseen) / 3, unseen]
    ranking = rank(DSIR(buckets=buckets, smoothing=1 / 1024, min_words=1, noise=False), corpus_of(texts), ["a b"])
    assert ranking.ids.tolist() == [0, 1, 2]
    np.testing.assert_allclose(ranking.scores, expected, rtol=1e-12)
    np.testing.assert_allclose(ranking.scores, [0.418523, -0.313596, -1.386294], atol=1e-6)
    sums = rank(
        DSIR(buckets=buckets, smoothing=1 / 1024, min_words=1, noise=False, length_norm=False),
        corpus_of(texts),
        ["a b"],
    )
    np.testing.assert_allclose(np.sort(sums.scores), np.sort(np.multiply(expected, [3, 3, 1])), rtol=1e-12)


@settings(max_examples=30, deadline=None)
@given(
    texts=st.lists(lines.filter(count_words), min_size=1, max_size=8),
    train=st.lists(lines.filter(count_words), min_size=1, max_size=4),
    smoothing=st.sampled_from([1e-6, 0.01, 1.0]),
)
def test_weights_equal_their_definition(texts: list[str], train: list[str], smoothing: float) -> None:
    buckets = 1 << 16
    usual, wanted = (Counter(g for text in some for g in ngrams(text.lower())) for some in (texts, train))
    total = smoothing * buckets

    def weight(gram: str) -> float:
        p = (usual[gram] + smoothing) / (usual.total() + total)
        return math.log((wanted[gram] + total * p) / (wanted.total() + total)) - math.log(p)

    selector = DSIR(buckets=buckets, smoothing=smoothing, min_words=1, noise=False)
    ranking = rank(selector, corpus_of(texts), train)
    scores = {int(i): score for i, score in zip(ranking.ids, ranking.scores, strict=True)}
    for i, text in enumerate(texts):
        assert scores[i] == pytest.approx(np.mean([weight(gram) for gram in ngrams(text.lower())]), abs=1e-9)
    assert ranking.scores.tolist() == sorted(ranking.scores, reverse=True)


def test_what_was_planted_comes_first() -> None:
    rng = np.random.default_rng(0)
    planted = [sentence(rng, "chess", int(rng.integers(10, 60)), 0.5) for _ in range(40)]
    others = [
        sentence(rng, str(rng.choice(["cooking", "sailing"])), int(rng.integers(10, 60)), 0.5) for _ in range(400)
    ]
    task = [sentence(rng, "chess", 14, 0.5) for _ in range(30)]
    ranking = rank(DSIR(noise=False), corpus_of([*others, *planted]), task)
    assert set(ranking.ids[:40]) == set(range(400, 440))
    drawn = rank(DSIR(max_documents=40), corpus_of([*others, *planted]), task)
    assert np.mean(drawn.ids[:40] >= 400) > 0.9
    text = planted[int(ranking.ids[0]) - 400]
    assert ranking.shared(0, text)[0] in TOPICS["chess"]
    assert "rook" not in ranking.shared(0, "oven bread knife")


def drawn_lines(seed: int, n: int, longest: int) -> list[str]:
    """Lines of all lengths from one distribution over words."""
    rng = np.random.default_rng(seed)
    p = 1 / np.arange(1, 301)
    return [" ".join(f"w{i}" for i in rng.choice(300, int(rng.integers(10, longest)), p=p / p.sum())) for _ in range(n)]


def test_where_nothing_is_planted_length_decides_nothing_unless_weights_are_summed() -> None:
    corpus, task = corpus_of(drawn_lines(0, 800, 150)), drawn_lines(1, 60, 30)

    def by_length(selector: DSIR) -> tuple[float, float]:
        """Spearman's rank correlation, and how often one of the chosen half is longer than one of the rest."""
        ranking = rank(selector, corpus, task)
        lengths = corpus.words[ranking.ids].astype(float)
        chosen, rest = lengths[:400, None], lengths[None, 400:]
        return float(spearmanr(ranking.scores, lengths)[0]), float(((chosen > rest) + 0.5 * (chosen == rest)).mean())

    correlation, auc = by_length(DSIR(buckets=1000, noise=False))
    assert abs(correlation) < 0.12  # 3.4 standard errors
    assert abs(auc - 0.5) < 0.07
    _, auc = by_length(DSIR(buckets=1000))
    assert abs(auc - 0.5) < 0.07
    correlation, auc = by_length(DSIR(buckets=1000, length_norm=False, noise=False))
    assert correlation < -0.75
    assert auc < 0.15


def test_what_the_task_does_not_show_weighs_the_same_however_rare() -> None:
    """Smoothed towards evenness, the rare ones would look like the task."""
    corpus = corpus_of([*["often often"] * 50, "seldom seldom", "target"])
    ranking = rank(DSIR(min_words=1, noise=False), corpus, ["target"])
    scores = dict(zip(ranking.ids.tolist(), ranking.scores.tolist(), strict=True))
    assert scores[0] == pytest.approx(scores[50], abs=1e-12)
    assert scores[51] > scores[0]


def test_documents_are_drawn_by_their_weights() -> None:
    """The paper's form: the first is drawn with a chance proportional to exp(w), others are not equally likely next."""
    texts = ["aim", "aim off", "off", "off off"]
    selector = DSIR(length_norm=False, temperature=1.0, min_words=1, buckets=64)
    draws = [rank(selector, corpus_of(texts), ["aim aim"], seed) for seed in range(200)]
    weight = dict(zip(draws[0].ids.tolist(), draws[0].scores.tolist(), strict=True))
    chance = np.exp([weight[i] for i in range(4)])
    chance /= chance.sum()
    assert chance.max() > 1.3 * chance.min()
    first = Counter(int(draw.ids[0]) for draw in draws)
    for i in range(4):
        assert abs(first[i] - 200 * chance[i]) < 4 * np.sqrt(200 * chance[i] * (1 - chance[i]))
    assert all(len(set(draw.ids.tolist())) == 4 for draw in draws)


def test_it_says_how_little_chance_changes() -> None:
    corpus, task = corpus_of(drawn_lines(2, 600, 40)), drawn_lines(3, 30, 30)
    budget = {"max_documents": 60}
    plain = rank(DSIR(noise=False, **budget), corpus, task)
    overlaps = []
    for temperature in (1e-9, 0.25, 100.0):
        ranking = rank(DSIR(temperature=temperature, **budget), corpus, task)
        overlaps.append(ranking.counts["overlap_with_top"])
        assert overlaps[-1] == 100 * len(set(ranking.ids[:60]) & set(plain.ids[:60])) // 60
    assert plain.counts["overlap_with_top"] == overlaps[0] == 100
    assert 50 < overlaps[1] < 95
    assert overlaps[2] < 30


def test_short_documents_are_left_out_and_counted() -> None:
    corpus = corpus_of(["one two", "one two three", "", "one two three four", "!!"])
    ranking = rank(DSIR(min_words=3), corpus, ["three"])
    assert set(ranking.ids) == {1, 3}
    assert ranking.counts["too_short"] == 3
    with pytest.raises(DataError, match="min_words"):
        rank(DSIR(min_words=5), corpus, ["three"])


def test_a_task_without_a_word_is_an_error() -> None:
    with pytest.raises(DataError, match="training texts with words"):
        rank(DSIR(min_words=1), corpus_of(["one"]), ["", " "])


def test_equal_documents_come_by_chance_or_by_id() -> None:
    corpus = corpus_of(["one two three"] * 30)
    drawn, plain = (rank(DSIR(min_words=1, noise=noise), corpus, ["two"]).ids.tolist() for noise in (True, False))
    assert plain == list(range(30)) == sorted(drawn) != drawn


@settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(st.lists(st.sampled_from(["a", "ß", "日本"]), min_size=1, max_size=5).map(" ".join), min_size=1),
    limits=st.fixed_dictionaries({}, optional={k: st.integers(1, 20) for k in Budget.__dataclass_fields__}),
    part=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_as_many_fit_as_could_be_taken_one_by_one(texts: list[str], limits: dict[str, int], part: float) -> None:
    corpus, order = corpus_of(texts), np.arange(len(texts))[::-1].copy()
    spent, n = dict.fromkeys(Budget.__dataclass_fields__, 0), 0
    for text in texts[::-1]:
        cost = {"max_documents": 1, "max_tokens": count_words(text), "max_bytes": len(text.encode())}
        spent = {key: spent[key] + cost[key] for key in spent}
        if any(spent[key] > part * limits[key] for key in limits):
            break
        n += 1
    assert fitting(corpus, order, Budget(**limits), part) == n


# ---- hybrid


def test_hybrid_is_bm25_and_then_dsir(shelf: list[str], train: list[str]) -> None:
    corpus = corpus_of(shelf)
    first = rank(BM25(per_query=1), corpus, train[:5])
    then = rank(DSIR(), corpus, train[:5], seed=3)
    both = rank(Hybrid(per_query=1), corpus, train[:5], seed=3)
    n = len(first)
    assert 0 < n < len(both)
    for column in ("ids", "scores", "ranks", "queries"):
        np.testing.assert_array_equal(getattr(both, column)[:n], getattr(first, column))
    rest = [i for i in then.ids.tolist() if i not in set(first.ids.tolist())]
    assert both.ids[n:].tolist() == rest
    assert (both.queries[n:] == -1).all()
    assert both.counts["by_bm25"] == n
    place_in = {int(i): place for place, i in enumerate(then.ids)}
    for place, text in enumerate(corpus.texts(both.ids)):
        other, there = (first, place) if place < n else (then, place_in[int(both.ids[place])])
        assert both.shared(place, text) == other.shared(there, text)
        assert both.scores[place] == other.scores[there]


def test_bm25_fills_no_more_than_its_share(shelf: list[str], train: list[str]) -> None:
    corpus = corpus_of(shelf)
    whole = rank(Hybrid(max_documents=20), corpus, train)
    half = rank(Hybrid(max_documents=20, share=0.5), corpus, train)
    nothing = rank(Hybrid(max_documents=20, share=0.0), corpus, train)
    assert (whole.queries[:20] >= 0).all()
    assert (half.queries[:10] >= 0).all()
    assert (half.queries[10:] == -1).all()
    np.testing.assert_array_equal(nothing.ids, rank(DSIR(), corpus, train).ids)
    np.testing.assert_array_equal(half.ids[:10], whole.ids[:10])


# ---- dense


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 40), queries=st.integers(1, 5), block=st.integers(1, 50))
def test_nearest_equals_comparing_all(seed: int, rows: int, queries: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    documents = rng.integers(-15000, 15000, (rows, 3), np.int16)[rng.integers(0, rows, rows)]  # many are equal
    asked, k = rng.integers(-15000, 15000, (queries, 3), np.int16), int(rng.integers(1, rows + 1))
    ids, scores = nearest(asked, [documents[i : i + block] for i in range(0, rows, block)], k)
    exact = asked.astype(np.int64) @ documents.astype(np.int64).T
    expected = [np.lexsort((np.arange(rows), -row))[:k] for row in exact]
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_allclose(scores, np.take_along_axis(exact, np.array(expected), 1) / 32767**2, rtol=1e-6)


def test_a_text_finds_itself_first(encoder: str, shelf: list[str]) -> None:
    asked = [i for i in range(20) if i != 3]
    ranking = rank(Dense(encoder, per_query=3, max_length=64), corpus_of(shelf), [shelf[i] for i in asked])
    assert set(ranking.ids[: len(asked)]) == set(asked)
    np.testing.assert_allclose(ranking.scores[: len(asked)], 1, atol=1e-3)
    assert (np.diff(ranking.ranks) >= 0).all()
    assert ranking.counts == {"queries": len(asked), "hits": 3 * len(asked)}


def test_a_vector_is_the_mean_over_tokens_and_padding_is_none(encoder: str, shelf: list[str]) -> None:
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(encoder).eval(), AutoTokenizer.from_pretrained(encoder)
    texts = [text for text in shelf if text.strip()]
    expected = []
    for text in texts:
        pieces = tokenizer(text, truncation=True, max_length=32, return_tensors="pt")
        with torch.inference_mode():
            mean = model(**pieces).last_hidden_state[0].mean(0)
        expected.append((mean / mean.norm()).numpy())
    for batch_tokens in (1, 100, 100_000):
        made = vectors.Embedder.load(encoder, 32, batch_tokens).vectors(texts)
        np.testing.assert_allclose(made, expected, atol=1e-5)
        np.testing.assert_allclose(vectors.whole(made) / 32767, expected, atol=3e-5)


@pytest.fixture
def counting(encoder: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """An own cache, ten documents in a file, and every text that a vector is made of."""
    monkeypatch.setenv("TRIVIUM_CACHE", str(tmp_path))
    monkeypatch.setattr(vectors, "BLOCK", 10)
    read: list[str] = []
    make = vectors.Embedder.vectors

    def watched(self: vectors.Embedder, texts: Sequence[str]) -> torch.Tensor:
        read.extend(texts)
        return make(self, texts)

    monkeypatch.setattr(vectors.Embedder, "vectors", watched)
    return read


def test_vectors_are_made_once_go_on_after_a_kill_and_heal(
    encoder: str, shelf: list[str], counting: list[str], tmp_path: Path
) -> None:
    corpus, selector = corpus_of(shelf), Dense(encoder, per_query=2, max_length=16)

    class KilledError(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done >= 30:
            raise KilledError

    with pytest.raises(KilledError):
        selector.rank(corpus, Queries("toy", ("mast",)), np.random.default_rng(0), kill)
    assert counting == ["mast", *shelf[:30]]
    counting.clear()
    whole = rank(selector, corpus, ["mast"])
    assert counting == ["mast", *shelf[30:]]
    counting.clear()
    assert same(rank(selector, corpus, ["mast"]), whole)
    assert counting == ["mast"]
    files = sorted(tmp_path.glob("vectors/*/*.npy"))
    assert len(files) == math.ceil(len(shelf) / 10)
    files[1].write_bytes(files[1].read_bytes()[:-7])
    files[2].write_bytes(b"")
    np.save(files[3], np.load(files[3])[:7])
    counting.clear()
    assert same(rank(selector, corpus, ["mast"]), whole)
    assert counting == ["mast", *shelf[10:40]]
    assert not list(tmp_path.glob("vectors/*/*.tmp"))


def test_another_corpus_encoder_or_length_has_its_own_vectors(
    encoder: str, shelf: list[str], counting: list[str], tmp_path: Path
) -> None:
    import shutil

    moved = tmp_path / "moved"
    shutil.copytree(encoder, moved)
    for number, (selector, texts) in enumerate(
        [
            (Dense(encoder, max_length=16), shelf),
            (Dense(encoder, max_length=8), shelf),
            (Dense(encoder, max_length=16), shelf[::-1]),
            (Dense(str(moved), max_length=16, batch_tokens=64), shelf),  # the same, elsewhere
        ]
    ):
        counting.clear()
        rank(selector, corpus_of(texts), ["mast"])
        assert len(counting) == (1 if number == 3 else 1 + len(shelf))
    (moved / "config.json").write_text((moved / "config.json").read_text() + "\n")
    counting.clear()
    rank(Dense(str(moved), max_length=16), corpus_of(shelf), ["mast"])
    assert len(counting) == 1 + len(shelf)


def test_an_encoder_that_cannot_be_loaded_is_an_error_that_helps(encoder: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"documents\.encoder.*empty.*Give a folder"):
        rank(Dense(str(tmp_path / "empty")), corpus_of(["one"]), ["one"])
    with pytest.raises(ConfigError, match=r"documents\.max_length: expected at most 64.*found 65"):
        rank(Dense(encoder, max_length=65), corpus_of(["one"]), ["one"])


def test_loading_an_encoder_draws_from_nobodys_generator(fresh: Callable[[Scratch], Encoder], tmp_path: Path) -> None:
    """One that was trained to fill gaps has no pooler: transformers draws one at random, and nobody uses it."""
    fresh(Scratch("tiny", architecture="bert", vocabulary=512)).save(tmp_path)
    before = torch.get_rng_state()
    made = vectors.Embedder.load(str(tmp_path / "mlm"), 32, 64)
    assert made.model.pooler is not None
    assert torch.equal(before, torch.get_rng_state())


# ---- the KL reduction


def test_the_kl_reduction_equals_its_definition() -> None:
    texts, chosen, task = ["a b", "b c c", "a", "c"], [0, 2], ["a b a", "b"]
    buckets, smoothing = 1 << 10, 1 / 1024

    def grams(some: Sequence[str]) -> Counter[str]:
        return Counter(gram for text in some for gram in ngrams(text))

    usual, picked, wanted = grams(texts), grams([texts[i] for i in chosen]), grams(task)

    def shares(counts: Counter[str], gram: str) -> float:
        prior = (usual[gram] + smoothing) / (usual.total() + 1)
        return (counts[gram] + prior) / (counts.total() + 1)

    def divergence(counts: Counter[str]) -> float:
        p = {gram: n / wanted.total() for gram, n in wanted.items()}
        return sum(p[gram] * math.log(p[gram] / shares(counts, gram)) for gram in p)

    found = kl_reduction(corpus_of(texts), np.array(chosen), task, buckets=buckets, smoothing=smoothing)
    assert found == pytest.approx(divergence(usual) - divergence(picked), abs=1e-12)
    assert found > 0


def test_choosing_what_is_like_the_task_reduces_more_than_chance_does() -> None:
    rng = np.random.default_rng(0)
    topics = [str(rng.choice(list(TOPICS))) for _ in range(600)]
    corpus = corpus_of([sentence(rng, topic, 30, 0.4) for topic in topics])
    task = [sentence(rng, "sailing", 14, 0.4) for _ in range(40)]

    def reduction(ids: Any) -> float:
        return kl_reduction(corpus, np.array(ids), task, buckets=200)

    like, unlike = (reduction([i for i, t in enumerate(topics) if t == topic]) for topic in ("sailing", "chess"))
    assert like > 0.1
    assert unlike < -0.1
    assert abs(reduction(rng.permutation(600)[:200])) < like / 4
    assert reduction(rank(DSIR(max_documents=200), corpus, task).ids[:200]) > 0.8 * like


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.one_of(lines, st.text(max_size=20)), min_size=1, max_size=10),
    task=st.lists(st.one_of(lines, st.text(max_size=20)), max_size=4),
    data=st.data(),
)
def test_the_kl_reduction_is_finite_and_0_for_all_and_for_nothing(
    texts: list[str], task: list[str], data: st.DataObject
) -> None:
    corpus = corpus_of(texts, 3)
    some = np.array(data.draw(st.lists(st.integers(0, len(texts) - 1), unique=True)), np.int64)
    assert math.isfinite(kl_reduction(corpus, some, task, buckets=50))
    everything = np.random.default_rng(0).permutation(len(texts))
    assert kl_reduction(corpus, everything, task, buckets=50) == 0
    assert kl_reduction(corpus, some[:0], task) == 0


def test_a_sample_of_a_large_corpus_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    lines = [sentence(rng, "chess" if i % 3 else "cooking", 20) for i in range(300)]
    drawn = rng.integers(300, size=3000)
    corpus, ids = corpus_of([lines[i] for i in drawn], 100), np.flatnonzero(drawn % 3)
    task = [sentence(rng, "chess", 14) for _ in range(40)]
    exact = kl_reduction(corpus, ids, task, buckets=200)
    from trivium.documents import divergence

    monkeypatch.setattr(divergence, "_MOST", 1000)
    sampled = kl_reduction(corpus, ids, task, buckets=200)
    assert sampled != exact
    assert sampled == pytest.approx(exact, abs=0.25 * exact)
    assert kl_reduction(corpus, np.arange(3000)[::-1], task) == 0


def test_shares_add_up_to_1() -> None:
    counts, prior = np.array([5, 0, 1]), np.array([0.5, 0.3, 0.2])
    for given_prior in (None, prior):
        assert share(counts, 0.1, given_prior).sum() == pytest.approx(1)
        assert (share(counts, 0.1, given_prior) > 0).all()
