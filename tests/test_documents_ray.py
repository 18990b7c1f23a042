"""The same search on a Ray cluster of two nodes, one of which dies."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import COMMON, TOPICS, make_task, sentence
from trivium import engine
from trivium.data import load_corpus
from trivium.documents import BM25, select_documents
from trivium.documents import shards as shards_module
from trivium.documents.index import Index

pytestmark = [
    pytest.mark.ray,
    pytest.mark.enable_socket,
    pytest.mark.filterwarnings("default"),  # Ray's own are not ours to mend
]


class Cluster:
    """Two nodes on this machine, of which the second can be killed and comes back for the next test."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as Nodes

        few = {"num_cpus": 1, "object_store_memory": 100_000_000}
        self.few, self.nodes = few, Nodes(initialize_head=True, head_node_args=few)
        self.second: Any = None

    def complete(self) -> None:
        if self.second is None:
            self.second = self.nodes.add_node(**self.few)
            self.nodes.wait_for_nodes()

    def kill(self) -> None:
        if self.second is not None:
            self.nodes.remove_node(self.second, allow_graceful=False)
            self.second = None


@pytest.fixture(scope="module")
def started() -> Iterator[Cluster]:
    ray = pytest.importorskip("ray")
    cluster = Cluster()
    cluster.complete()
    ray.init(address=cluster.nodes.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.nodes.shutdown()


@pytest.fixture
def cluster(started: Cluster) -> Cluster:
    started.complete()
    return started


def test_both_nodes_work_and_results_come_in_order(cluster: Cluster) -> None:
    def where(common: int, n: int) -> tuple[int, str]:
        import ray

        time.sleep(0.2)
        return common * n, ray.get_runtime_context().get_node_id()

    found = list(engine.Ray().map(where, 3, [(n,) for n in range(12)]))
    assert [product for product, _ in found] == [3 * n for n in range(12)]
    assert len({node for _, node in found}) == 2


def test_what_a_dead_node_was_given_is_done_by_the_other(cluster: Cluster) -> None:
    def slow(common: int, n: int) -> "np.ndarray[Any, Any]":
        time.sleep(0.5)
        return np.full(50_000, common * n)  # too large to travel inline: a dead node takes it along

    arrived = []
    for result in engine.Ray().map(slow, 2, [(n,) for n in range(10)]):
        arrived.append(int(result[0]))
        if len(arrived) == 2:
            cluster.kill()
    assert arrived == [2 * n for n in range(10)]


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TRIVIUM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shards_module, "_MOST", 500)
    rng = np.random.default_rng(0)
    words = [*COMMON, *(word for topic in TOPICS.values() for word in topic)]
    texts = [" ".join(rng.choice(words, rng.integers(4, 30))) for _ in range(6000)]
    (tmp_path / "corpus.txt").write_text("\n\n".join(texts))
    return load_corpus(tmp_path / "corpus.txt")


def test_a_search_loses_nothing_when_a_node_dies(cluster: Cluster, corpus: Any) -> None:
    rng = np.random.default_rng(1)
    queries = [sentence(rng, rng.choice(list(TOPICS)), 25) for _ in range(200)]  # results of 480 kB
    index = Index.of(corpus)
    assert len(index.shards) == 12
    (here,) = index.search(queries, 300)
    asked: list[int] = []

    def kill(done: int, total: int) -> None:
        asked.append(done)
        if len(asked) == 2:
            cluster.kill()

    with engine.using(engine.Ray()):
        (there,) = index.search(queries, 300, progress=kill)
    assert len(asked) == 12
    np.testing.assert_array_equal(here.ids, there.ids)
    np.testing.assert_array_equal(here.scores, there.scores)


def test_a_selection_is_the_same_wherever_it_is_made(cluster: Cluster, corpus: Any) -> None:
    task, selector = make_task(), BM25(per_query=30, max_documents=500)
    here = select_documents(corpus, task, selector)
    with engine.using(engine.Ray()):
        there = select_documents(corpus, task, selector)
    np.testing.assert_array_equal(here.ids, there.ids)
    np.testing.assert_array_equal(here.scores, there.scores)
    assert here.how == there.how
    assert here.terms == there.terms
