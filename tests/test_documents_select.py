"""What is chosen, what is left out, and what is said about it."""

import json
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import COMMON, make_task, sentence
from trivium.config import choose
from trivium.core import Corpus, Queries, Selection, Split, Task, digest
from trivium.data import count_words, words
from trivium.documents import (
    BM25,
    SELECTORS,
    Budget,
    NoDocuments,
    RandomDocuments,
    Ranking,
    Selector,
    examples,
    select_documents,
)
from trivium.documents.index import Index
from trivium.documents.screens import REASONS
from trivium.errors import ConfigError, DataError

REPORTED = {"candidates", *REASONS, "documents", "words"}  # columns of the report's table


def corpus_of(texts: list[str], sources: list[str] | None = None, chunk: int = 7) -> Corpus:
    """A corpus in memory, in as many chunks as one from a file."""
    columns = {
        "text": pa.array(texts, pa.large_string()),
        "source": pa.array(sources or ["here"] * len(texts)).dictionary_encode(),
        "words": pa.array([count_words(text) for text in texts], pa.int32()),
        "file": pa.array(["shelf.jsonl"] * len(texts)).dictionary_encode(),
        "row": pa.array(range(1, len(texts) + 1), pa.int64()),
    }
    table = pa.table(columns)
    parts = [table.slice(start, chunk) for start in range(0, len(texts), chunk)]
    return Corpus("shelf", digest(texts), pa.concat_tables(parts) if parts else table)


def task_of(train: list[str], dev: list[str] = [], test: list[str] = [], pairs: Any = None) -> Task:  # noqa: B006
    tables: dict[Split, pa.Table] = {}
    splits: dict[Split, list[str]] = {"train": train, "dev": dev, "test": test}
    for split, texts in splits.items():
        n = len(texts)
        columns: dict[str, Any] = {"text": texts, "label": [i % 2 for i in range(n)], "row": range(11, n + 11)}
        if pairs is not None:
            columns["text_pair"] = pairs[split]
        tables[split] = pa.table({name: pa.array(list(values)) for name, values in columns.items()})
    return Task("toy", "classify", "accuracy", ("no", "yes"), tables)


@pytest.fixture(scope="module")
def shelf() -> Corpus:
    """Three hundred documents, a tenth of each topic and the rest about nothing in particular."""
    rng = np.random.default_rng(5)
    topics = ["cooking", "sailing", "chess", *["nothing"] * 7]
    of = [topics[rng.integers(10)] for _ in range(300)]
    texts = [
        sentence(rng, topic, int(rng.integers(10, 30)), 0.4)
        if topic != "nothing"
        else " ".join(rng.choice([*COMMON, "red", "blue", "green", "grass", "sky", "cloud", "rain"], 20))
        for topic in of
    ]
    return corpus_of(texts, of)


def same(a: Selection, b: Selection) -> bool:
    fields = ("ids", "scores", "ranks", "queries")
    return all(np.array_equal(getattr(a, f), getattr(b, f), equal_nan=True) for f in fields) and a.terms == b.terms


# ---- BM25


def test_bm25_finds_what_was_planted_and_chance_does_not(shelf: Corpus, task: Task) -> None:
    def share(selector: Selector) -> float:
        sources = select_documents(shelf, task, selector).how["sources"]
        return 1 - sources.get("nothing", 0) / sum(sources.values())

    planted = 1 - Counter(shelf.table["source"].to_pylist())["nothing"] / len(shelf)
    assert share(BM25(max_documents=60)) > 0.95
    assert abs(share(RandomDocuments(max_documents=60)) - planted) < 0.15


def test_bm25_finds_nothing_where_nothing_was_planted() -> None:
    rng = np.random.default_rng(7)
    vocabulary = [f"w{i}" for i in range(50)]
    texts = [" ".join(rng.choice(vocabulary, 12)) for _ in range(600)]
    corpus = corpus_of(texts, ["marked" if i % 3 == 0 else "plain" for i in range(600)])
    task = task_of([" ".join(rng.choice(vocabulary, 12)) for _ in range(40)])
    sources = select_documents(corpus, task, BM25(per_query=20, max_documents=240)).how["sources"]
    assert sum(sources.values()) == 240
    assert abs(sources["marked"] - 80) < 4 * np.sqrt(240 * 1 / 3 * 2 / 3)


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.lists(st.sampled_from("abcdef"), max_size=6).map(" ".join), min_size=1, max_size=12),
    train=st.lists(st.lists(st.sampled_from("abcdef"), max_size=5).map(" ".join), min_size=1, max_size=5),
    per_query=st.integers(1, 14),
)
def test_the_union_is_rank_major(texts: list[str], train: list[str], per_query: int) -> None:
    """Each document keeps its best rank, of these the best score, of these the first row; and so they are ordered."""
    corpus, best = corpus_of(texts), dict[int, tuple[int, float, int]]()
    found = [next(Index.build(texts).search([query], per_query)) for query in train]
    for query, hits in enumerate(found):
        for rank, (document, score) in enumerate(zip(hits.ids[0].tolist(), hits.scores[0].tolist(), strict=True)):
            if document >= 0:
                best[document] = min(best.get(document, (99, 0.0, 0)), (rank, -score, query))
    if not best:
        with pytest.raises(DataError, match="share a word"):
            rank_of(corpus, train, per_query)
        return
    ranking = rank_of(corpus, train, per_query)
    expected = sorted((rank, score, document, query) for document, (rank, score, query) in best.items())
    rows = zip(ranking.ranks.tolist(), (-ranking.scores).tolist(), ranking.ids.tolist(), ranking.queries.tolist(),
               strict=True)  # fmt: skip
    assert list(rows) == expected
    assert ranking.counts == {"queries": len(train), "hits": sum(int((h.ids >= 0).sum()) for h in found)}


def rank_of(corpus: Corpus, train: list[str], per_query: int) -> Ranking:
    return BM25(per_query=per_query).rank(corpus, Queries("toy", tuple(train)), np.random.default_rng(0))


def test_terms_occur_in_the_document_and_in_the_row_that_asked(shelf: Corpus, task: Task) -> None:
    selection = select_documents(shelf, task, BM25(per_query=10))
    rows = task.texts("train")
    assert len(selection) > 50
    for text, query, terms in zip(selection.texts(), selection.queries, selection.terms, strict=True):
        assert terms
        assert set(terms) <= set(words(text)) & set(words(rows[query]))


def test_more_per_query_only_adds_at_the_end(shelf: Corpus, task: Task) -> None:
    few, more = (select_documents(shelf, task, BM25(per_query=n)) for n in (3, 6))
    assert len(few) < len(more)
    np.testing.assert_array_equal(more.ids[: len(few)], few.ids)


def test_a_query_may_be_very_long_or_empty() -> None:
    corpus = corpus_of(["needle", "straw"])
    selection = select_documents(corpus, task_of(["needle " * 5000, "", "?!"]), BM25())
    assert selection.ids.tolist() == [0]
    assert selection.how["counts"]["queries"] == 3


# ---- random and none


def test_random_differs_by_seed_and_by_nothing_else(shelf: Corpus, task: Task) -> None:
    selector = RandomDocuments(max_documents=40)
    first, again, other = (select_documents(shelf, task, selector, seed=seed) for seed in (0, 0, 1))
    assert same(first, again)
    assert set(first.ids) != set(other.ids)
    assert (first.queries == -1).all()
    assert np.isnan(first.scores).all()


def test_every_document_is_drawn_equally_often() -> None:
    corpus, task = corpus_of([f"text {i}" for i in range(20)]), task_of(["text"])
    drawn = Counter(
        i for seed in range(400) for i in select_documents(corpus, task, RandomDocuments(5), seed=seed).ids.tolist()
    )
    assert sum(drawn.values()) == 400 * 5
    assert all(abs(drawn[i] - 100) < 4.5 * np.sqrt(400 * 0.25 * 0.75) for i in range(20))


def test_random_without_a_budget_is_the_whole_corpus(shelf: Corpus, task: Task) -> None:
    selection = select_documents(shelf, task, RandomDocuments())
    assert len(selection) + sum(selection.how["counts"][reason] for reason in REASONS) == len(shelf)
    assert selection.how["ended_by"] is None


def test_bm25_ignores_the_seed(shelf: Corpus, task: Task) -> None:
    a, b = (select_documents(shelf, task, BM25(), seed=seed) for seed in (0, 1))
    assert same(a, b)
    assert a.how == b.how
    assert not BM25.seeded
    assert RandomDocuments.seeded


def test_none_chooses_nothing(shelf: Corpus, task: Task, tmp_path: Path) -> None:
    selection = select_documents(shelf, task, NoDocuments())
    selection.save(tmp_path)
    assert len(Selection.load(tmp_path)) == 0
    assert selection.texts() == examples(selection, shelf, task) == []
    assert selection.how["counts"]["words"] == 0


# ---- budget


@pytest.mark.parametrize("make", [lambda **limits: BM25(per_query=20, **limits), RandomDocuments])
@pytest.mark.parametrize("key", ["max_documents", "max_tokens", "max_bytes"])
def test_a_budget_is_filled_and_never_broken(shelf: Corpus, task: Task, make: Any, key: str) -> None:
    def cost(ids: Any) -> int:
        texts = shelf.texts(ids)
        return {"max_documents": len, "max_tokens": lambda t: sum(map(count_words, t)),
                "max_bytes": lambda t: sum(len(x.encode()) for x in t)}[key](texts)  # fmt: skip

    everything = select_documents(shelf, task, make())
    whole = cost(everything.ids)
    for limit in (whole // 7, whole // 2, whole - 1, whole, 2 * whole):
        selection = select_documents(shelf, task, make(**{key: limit}))
        n = len(selection)
        np.testing.assert_array_equal(selection.ids, everything.ids[:n])
        assert cost(selection.ids) <= limit
        assert n == len(everything) or cost(everything.ids[: n + 1]) > limit
        assert selection.how["ended_by"] == (key if n < len(everything) else None)


def test_the_tightest_limit_rules(shelf: Corpus, task: Task) -> None:
    selection = select_documents(shelf, task, BM25(max_documents=50, max_tokens=100, max_bytes=100_000))
    assert selection.how["ended_by"] == "max_tokens"
    assert 0 < len(selection) < 50


def test_words_not_letters_are_counted_as_tokens() -> None:
    corpus = corpus_of(["größe 数字 x", "größe 数字 y"])
    selection = select_documents(corpus, task_of(["größe"]), BM25(max_tokens=5))
    assert selection.how["counts"] | {"documents": 1, "words": 3, "bytes": 16} == selection.how["counts"]


def test_a_budget_too_small_for_one_document_is_an_error(shelf: Corpus, task: Task) -> None:
    with pytest.raises(ConfigError, match=r"max_tokens.*at least one document.*found 3"):
        select_documents(shelf, task, BM25(max_tokens=3))


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "bm25", "max_tokens": 0},
        {"kind": "random", "max_bytes": -1},
        {"kind": "bm25", "per_query": 0},
        {"kind": "bm25", "b": 1.5},
        {"kind": "bm25", "k1": float("nan")},
        {"kind": "bm25", "max_token": 5},
        {"kind": "random", "per_query": 5},
    ],
)
def test_wrong_settings_are_named(options: dict[str, Any]) -> None:
    key = list(options)[1]
    with pytest.raises(ConfigError, match=rf"arms\.tlm\.documents.*{key}"):
        choose(SELECTORS, options, "arms.tlm.documents")


def test_settings_come_from_the_study_file() -> None:
    chosen = choose(SELECTORS, {"kind": "bm25", "per_query": 7, "max_tokens": 9}, "arms.tlm.documents")
    assert chosen == BM25(per_query=7, max_tokens=9)
    assert Budget.of(chosen) == Budget(max_tokens=9)


# ---- screens


VARIANTS = ["The keel, the MAST.", "the keel the mast", "  The keel -- the Mast!", "Ｔhe keel, the mast"]


@pytest.mark.parametrize("split", ["dev", "test"])
@pytest.mark.parametrize("selector", [BM25(per_query=9), RandomDocuments()])
def test_a_held_out_text_is_never_read_however_it_is_written(split: Split, selector: Selector) -> None:
    corpus = corpus_of([*VARIANTS, "the keel and the mast", "a mast"])
    task = task_of(["the keel the mast"], **{split: [VARIANTS[0]]})
    selection = select_documents(corpus, task, selector)
    assert sorted(selection.ids.tolist()) == [4, 5]
    assert selection.how["counts"]["heldout_equal"] == len(VARIANTS)


def test_what_is_left_out_is_replaced() -> None:
    corpus = corpus_of(["keel keel mast", "keel mast", "Keel, mast!", "keel rope", "sky"])
    task = task_of(["keel mast"], dev=["keel, keel, mast"])
    selection = select_documents(corpus, task, BM25(max_documents=2))
    assert selection.ids.tolist() == [1, 3]
    counts = selection.how["counts"]
    assert (counts["heldout_equal"], counts["duplicates"], counts["documents"]) == (1, 1, 2)
    assert counts["candidates"] == 4


def test_of_equal_documents_only_the_best_ranked_is_read() -> None:
    corpus = corpus_of(["filler here", "A rope; a knot", "a rope a knot", "A ROPE A KNOT", "one rope"])
    selection = select_documents(corpus, task_of(["a rope a knot"]), BM25())
    assert selection.ids.tolist() == [1, 4]
    assert selection.how["counts"]["duplicates"] == 2


def test_of_a_held_out_pair_neither_text_is_read_nor_both_together() -> None:
    corpus = corpus_of(["rope one", "rope two", "rope one rope two", "rope three"])
    pairs = {"train": ["rope"], "dev": ["rope TWO"], "test": []}
    task = task_of(["rope"], dev=["Rope one"], pairs=pairs)
    assert select_documents(corpus, task, BM25()).ids.tolist() == [3]


def test_training_texts_may_be_read() -> None:
    assert select_documents(corpus_of(["a rope", "sky"]), task_of(["a rope"]), BM25()).ids.tolist() == [0]


def test_a_sealed_task_is_screened_for_dev_alone_and_says_so() -> None:
    corpus, task = corpus_of(["rope one", "rope two", "rope three"]), task_of(["rope"], ["rope one"], ["rope two"])
    sealed, whole = (select_documents(corpus, t, BM25()) for t in (task.sealed(), task))
    assert (sealed.ids.tolist(), sealed.how["screened"]) == ([1, 2], ["dev"])
    assert (whole.ids.tolist(), whole.how["screened"]) == ([2], ["dev", "test"])


def test_nothing_but_held_out_texts_is_an_error() -> None:
    with pytest.raises(DataError, match="dev or test texts"):
        select_documents(corpus_of(["rope one"]), task_of(["rope"], ["rope one"]), BM25())


@pytest.mark.parametrize("selector", [BM25(per_query=5, max_tokens=400), RandomDocuments(max_tokens=400)])
def test_held_out_rows_and_all_labels_decide_nothing(shelf: Corpus, task: Task, selector: Selector) -> None:
    def shuffled(table: pa.Table, seed: int, columns: tuple[str, ...]) -> pa.Table:
        order = np.random.default_rng(seed).permutation(len(table))
        for name in columns:
            table = table.set_column(table.column_names.index(name), name, table[name].take(pa.array(order)))
        return table

    other = make_task(seed=99)  # other dev and test texts altogether
    tables = {
        "train": shuffled(task.rows("train"), 0, ("label",)),
        "dev": shuffled(other.rows("dev"), 1, ("text", "label")),
        "test": shuffled(other.rows("test"), 2, ("text", "label")),
    }
    changed = replace(task, tables=tables)
    assert changed.fingerprint != task.fingerprint
    assert same(select_documents(shelf, task, selector), select_documents(shelf, changed, selector))


# ---- what is said


@pytest.mark.parametrize("selector", [BM25(per_query=4), RandomDocuments(max_documents=30), NoDocuments()])
def test_counts_and_sources_add_up(shelf: Corpus, task: Task, selector: Selector) -> None:
    selection = select_documents(shelf, task, selector)
    counts, sources = selection.how["counts"], selection.how["sources"]
    assert counts.keys() >= REPORTED
    assert counts["documents"] == len(selection) == sum(sources.values())
    assert counts["words"] == sum(map(count_words, selection.texts()))
    assert counts["bytes"] == sum(len(text.encode()) for text in selection.texts())
    assert sources == Counter(shelf.sources(selection.ids))
    assert list(sources.values()) == sorted(sources.values(), reverse=True)
    assert len(selection) + sum(counts[reason] for reason in REASONS) <= counts["candidates"]


def test_a_selection_is_whole_after_saving_and_loading(shelf: Corpus, task: Task, tmp_path: Path) -> None:
    selection = select_documents(shelf, task, BM25(max_tokens=500), seed=3)
    selection.save(tmp_path)
    loaded = Selection.load(tmp_path, shelf)
    assert same(selection, loaded)
    assert loaded.how == selection.how
    assert loaded.texts() == selection.texts()
    assert loaded.how["settings"]["max_tokens"] == 500
    assert loaded.how["corpus"]["fingerprint"] == shelf.fingerprint
    assert loaded.how["task"]["fingerprint"] == task.fingerprint


def test_examples_tell_the_document_the_row_and_the_reason(shelf: Corpus, task: Task, tmp_path: Path) -> None:
    selection = select_documents(shelf, task, BM25(per_query=5))
    shown = examples(selection, shelf, task, n=9)
    json.dumps(shown, allow_nan=False)
    assert len(shown) == 9
    places = [selection.ids.tolist().index(e["id"]) for e in shown]
    assert (places[0], places[-1]) == (0, len(selection) - 1)
    assert places == sorted(places)
    rows = task.rows("train").to_pylist()
    for place, e in zip(places, shown, strict=True):
        row = rows[selection.queries[place]]
        assert e["text"] == shelf.texts([e["id"]])[0]
        assert e["source"] == shelf.sources([e["id"]])[0]
        assert (e["query_row"], e["query_text"], e["label"]) == (row["row"], row["text"], task.labels[row["label"]])
        assert (e["score"], e["rank"]) == (selection.scores[place], selection.ranks[place])
        assert tuple(e["terms"]) == selection.terms[place]
    assert examples(Selection.load(saved(selection, tmp_path)), shelf, task, n=9) == shown


def saved(selection: Selection, folder: Path) -> Path:
    selection.save(folder)
    return folder


def test_examples_of_a_random_choice_name_no_row(shelf: Corpus, task: Task) -> None:
    shown = examples(select_documents(shelf, task, RandomDocuments(max_documents=5)), shelf, task)
    json.dumps(shown, allow_nan=False)
    assert len(shown) == 5
    for e in shown:
        assert e["score"] is e["rank"] is e["query_row"] is e["query_text"] is e["label"] is None
        assert e["terms"] == []


@pytest.mark.parametrize("selector", [BM25(), RandomDocuments(), RandomDocuments(max_documents=3), NoDocuments()])
def test_progress_only_goes_forward_and_arrives(shelf: Corpus, task: Task, selector: Selector) -> None:
    seen: list[float] = []
    select_documents(shelf, task, selector, progress=lambda done, total: seen.append(done / total))
    assert seen == sorted(seen)
    assert seen[-1] == 1


@dataclass(frozen=True)
class Longest:
    """A stranger's selector."""

    seeded: ClassVar[bool] = False
    max_documents: int | None = 3

    def rank(self, corpus: Corpus, queries: Queries, rng: np.random.Generator, progress: Any = None) -> Ranking:
        order = np.argsort(-corpus.words, kind="stable")
        return Ranking(order, corpus.words[order].astype(float), np.arange(len(order)), np.full(len(order), -1))


def test_a_stranger_can_write_a_selector(shelf: Corpus, task: Task) -> None:
    selector = choose(SELECTORS, {"kind": f"{__name__}:Longest", "max_documents": 4}, "arms.mine.documents")
    selection = select_documents(shelf, task, selector)
    assert len(selection) == 4
    assert selection.how["settings"] == {"max_documents": 4}
    assert shelf.words[selection.ids].min() >= np.sort(shelf.words)[-5]


def test_a_selector_is_given_training_texts_alone(shelf: Corpus, task: Task) -> None:
    seen: list[Queries] = []

    class Curious(Longest):
        def rank(self, corpus: Corpus, queries: Queries, rng: np.random.Generator, progress: Any = None) -> Ranking:
            seen.append(queries)
            return super().rank(corpus, queries, rng)

    select_documents(shelf, task, Curious())
    assert seen == [Queries(task.name, tuple(task.texts("train")))]
