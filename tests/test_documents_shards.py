"""Shards: the same hits however a corpus is cut, and nothing is indexed twice."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium.core import Corpus
from trivium.data import load_corpus
from trivium.documents import index as index_module
from trivium.documents import shards as shards_module
from trivium.documents.index import Hits, Index
from trivium.documents.shards import Shard, shards_of
from trivium.errors import ConfigError


def lines(n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    vocabulary = np.array([f"w{i}" for i in range(300)])
    return [" ".join(vocabulary[rng.zipf(1.3, rng.integers(3, 30)) % 300]) for _ in range(n)]


def write(folder: Path, **files: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, texts in files.items():
        (folder / f"{name}.txt").write_text("\n\n".join(texts))
    return folder


def shards(corpus: Corpus) -> list[Shard]:
    return [Shard.open(folder) for folder in shards_of(corpus)]


def hits(index: Index, queries: list[str], k: int) -> Hits:
    found = list(index.search(queries, k))
    return Hits(np.concatenate([f.ids for f in found]), np.concatenate([f.scores for f in found]))


def same(one: Hits, other: Hits) -> None:
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(one.scores, other.scores)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRIVIUM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shards_module, "_MOST", 100)
    monkeypatch.setattr(shards_module, "_BLOCK", 13)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many documents each shard that was made had."""
    sizes: list[int] = []
    make = Shard.make.__func__  # type: ignore[attr-defined]

    def noted(cls: type[Shard], *args: object) -> Shard:
        shard: Shard = make(cls, *args)
        sizes.append(len(shard))
        return shard

    monkeypatch.setattr(Shard, "make", classmethod(noted))
    return sizes


@pytest.mark.parametrize("k", [1, 7, 60, 350])
def test_sharded_hits_equal_unsharded_ones_to_the_last_bit(tmp_path: Path, k: int) -> None:
    texts, queries = lines(350, 0), [*lines(40, 1), "", "unknown", "w1 w1 w1"]
    corpus = load_corpus(write(tmp_path / "c", a=texts))
    assert [len(shard) for shard in shards(corpus)] == [100, 100, 100, 50]
    same(hits(Index.of(corpus), queries, k), hits(Index.build(texts), queries, k))


@settings(max_examples=20, deadline=None)
@given(cuts=st.sets(st.integers(1, 59), max_size=6), k=st.integers(1, 70), share=st.sampled_from([0.0, 0.05, 0.3, 2.0]))
def test_any_cut_gives_the_same_hits(cuts: set[int], k: int, share: float) -> None:
    texts, queries = lines(60, 2), lines(9, 3)
    parts = np.split(np.array(texts, object), sorted(cuts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "_FREQUENT", share)  # from no word to all words laid out as rows
        cut = Index([shard for part in parts for shard in Index.build(list(part)).shards])
        same(hits(cut, queries, k), hits(Index.build(texts), queries, k))  # type: ignore[arg-type]


def test_rows_and_postings_add_up_to_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, queries = lines(9000, 4), lines(12, 5)  # more than one span
    found = []
    for share in (0.0, 0.05, 2.0):
        monkeypatch.setattr(index_module, "_FREQUENT", share)
        found.append(hits(Index.build(texts), queries, 40).scores)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
    np.testing.assert_allclose(found[0], found[2], rtol=1e-5)


def test_the_second_time_nothing_is_made(tmp_path: Path, made: list[int]) -> None:
    corpus = load_corpus(write(tmp_path / "c", a=lines(150, 0)))
    folders = shards_of(corpus)
    assert sorted(made) == [50, 100]
    assert shards_of(corpus) == folders
    assert len(made) == 2


@pytest.mark.parametrize(
    ("files", "new"),
    [
        (["a", "c", "d"], [30]),  # added at the end
        (["a", "aa", "c"], [30]),  # in the middle
        (["0", "a", "c"], [30]),  # at the beginning
        (["c", "z"], [30]),  # the first one gone
    ],
)
def test_files_that_are_added_are_indexed_alone(
    tmp_path: Path, made: list[int], files: list[str], new: list[int]
) -> None:
    known = {"a": lines(70, 0), "c": lines(80, 1)}
    for name in ("a", "c"):  # one after the other, so that each is a shard
        shards_of(load_corpus(write(tmp_path / name, **{name: known[name]})))
    made.clear()
    texts = {name: known.get(name, lines(30, 9)) for name in files}
    grown = load_corpus(write(tmp_path / "grown", **texts))
    found = hits(Index.of(grown), lines(5, 7), 20)
    assert made == new
    same(found, hits(Index.build([t for name in files for t in texts[name]]), lines(5, 7), 20))


def test_a_corpus_that_grows_file_by_file_never_indexes_a_document_twice(tmp_path: Path, made: list[int]) -> None:
    for n in range(1, 5):
        folder = write(tmp_path / "c", **{f"part-{i}": lines(20, i) for i in range(n)})
        index = Index.of(load_corpus(folder))
    assert made == [20] * 4
    whole = Index.build([text for i in range(4) for text in lines(20, i)])
    same(hits(index, ["w1 w2 w3"], 80), hits(whole, ["w1 w2 w3"], 80))


def test_an_interrupted_build_goes_on_after_the_last_shard(
    tmp_path: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards_module, "cores", lambda: 1)
    corpus, blocks = load_corpus(write(tmp_path / "c", a=lines(300, 0))), shards_module._blocks

    def broken(corpus: Corpus, first: int, documents: int) -> object:
        if first == 200:
            raise KeyboardInterrupt
        return blocks(corpus, first, documents)

    monkeypatch.setattr(shards_module, "_blocks", broken)
    with pytest.raises(KeyboardInterrupt):
        shards_of(corpus)
    monkeypatch.setattr(shards_module, "_blocks", blocks)
    assert made == [100, 100]
    assert len(shards_of(corpus)) == 3
    assert made == [100, 100, 100]


@pytest.mark.parametrize("harm", ["gone", "cut", "empty"])
def test_a_damaged_shard_is_made_anew(tmp_path: Path, made: list[int], harm: str) -> None:
    corpus = load_corpus(write(tmp_path / "c", a=lines(150, 0)))
    before, victim = hits(Index.of(corpus), ["w1 w5"], 9), shards_of(corpus)[0] / "postings.bin"
    if harm == "gone":
        victim.unlink()
    else:
        victim.write_bytes(victim.read_bytes()[: 0 if harm == "empty" else 500])
    made.clear()
    same(before, hits(Index.of(corpus), ["w1 w5"], 9))
    assert made == [100]


def test_what_was_not_written_to_the_end_is_no_shard(tmp_path: Path, made: list[int]) -> None:
    corpus = load_corpus(write(tmp_path / "c", a=lines(150, 0)))
    (shards_of(corpus)[1] / "shard.json").unlink()
    made.clear()
    assert len(shards(corpus)) == 2
    assert made == [50]


def test_hundreds_of_shards_do_not_need_hundreds_of_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(shards_module, "_MOST", 2)
    texts = lines(300, 0)
    corpus = load_corpus(write(tmp_path / "c", a=texts))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 100
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 256, hard))
    try:
        index = Index.of(corpus)
        assert len(index.shards) == 150
        same(hits(index.pruned(1.0), ["w1 w2"], 40), hits(Index.build(texts), ["w1 w2"], 40))
        hits(index.pruned(0.5), ["w1 w2"], 40)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_many_words_in_many_blocks_are_numbered_as_in_one() -> None:
    texts = [" ".join(f"w{i}" for i in range(n, n + 900)) for n in range(0, 90_000, 450)]  # the table grows, filled
    blocks = Shard.make(pa.array([text], pa.large_string()) for text in texts)
    whole = Shard.make(iter([pa.array(texts, pa.large_string())]))
    for name in ("words", "starts", "documents", "lengths", "amounts"):
        np.testing.assert_array_equal(getattr(blocks, name), getattr(whole, name))


def test_a_word_repeated_beyond_all_measure_stays_at_the_top() -> None:
    texts = ["echo " * 70_000, "echo " * 3, "other"]
    index = Index.build(texts, b=0.0)
    assert int(index.shards[0].amounts.max()) == 65_535
    (found,) = index.search(["echo"], 3)
    assert found.ids.tolist() == [[0, 1, -1]]


def test_documents_without_words_are_kept_on_disk_too(tmp_path: Path) -> None:
    Shard.make(iter([pa.array(["", "..."], pa.large_string())])).save(tmp_path, "first")
    empty = Shard.open(tmp_path)
    same(hits(Index([empty, *Index.build(["a b"]).shards]), ["a"], 3), hits(Index.build(["", "...", "a b"]), ["a"], 3))


def test_groups_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    index, queries = Index.build(lines(200, 0)), lines(50, 1)
    whole = hits(index, queries, 9)
    for name, value in (("_CHARACTERS", 150), ("_MOST", 7), ("_SECONDS", 0.0)):
        with monkeypatch.context() as patch:
            patch.setattr(index_module, name, value)
            patch.setattr(index_module, "_BATCH", 5)
            same(hits(index, queries, 9), whole)


def test_how_the_table_is_chunked_does_not_matter(tmp_path: Path, made: list[int]) -> None:
    corpus = load_corpus(write(tmp_path / "c", a=lines(150, 0)))
    first = shards_of(corpus)
    made.clear()
    whole = Corpus(corpus.name, "other", corpus.table.combine_chunks())
    assert shards_of(whole) == first
    assert not made


def test_a_complete_cache_need_not_be_written_to(
    tmp_path: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = load_corpus(write(tmp_path / "c", a=lines(150, 0)))
    first = shards_of(corpus)
    made.clear()
    monkeypatch.setattr(shards_module, "FileLock", None)
    monkeypatch.setattr(shards_module, "_cuts", None)  # nor is the corpus read again
    assert shards_of(corpus) == first


def test_without_a_folder_to_write_to_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = load_corpus(write(tmp_path / "c", a=lines(5, 0)))
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRIVIUM_CACHE", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="TRIVIUM_CACHE"):
        shards_of(corpus)
    shutil.rmtree(tmp_path / "cache")
