"""Tiny data and models, made in memory."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from trivium import seeds
from trivium.core import Task
from trivium.kinds import Encoded
from trivium.training import Encoder, Scratch, encode_documents, make_tokenizer, new_encoder

TOPICS = {
    "cooking": ["salt", "oven", "bread", "butter", "sugar", "flour", "onion", "garlic", "simmer", "knife"],
    "sailing": ["mast", "rudder", "harbour", "anchor", "keel", "breeze", "hull", "deck", "tide", "rope"],
    "chess": ["rook", "bishop", "castle", "gambit", "pawn", "queen", "check", "board", "tempo", "endgame"],
}
COMMON = ["the", "a", "of", "and", "then", "with", "on", "in", "it", "was", "very", "old", "new", "some", "made"]


def sentence(rng: np.random.Generator, topic: str, length: int = 14, purity: float = 0.5) -> str:
    """A line of words, some of them of a topic."""
    words = [rng.choice(TOPICS[topic]) if rng.random() < purity else rng.choice(COMMON) for _ in range(length)]
    return " ".join(words)


def make_task(rows: int = 60, *, dev: int = 30, test: int = 30, purity: float = 0.5, seed: int = 0) -> Task:
    """A task of three topics that words give away."""
    rng = np.random.default_rng(seed)
    labels = tuple(TOPICS)

    def table(n: int, name: str) -> pa.Table:
        gold = np.arange(n) % len(labels)
        texts = [sentence(rng, labels[g], purity=purity) for g in gold]
        return pa.table({"text": texts, "label": gold, "file": [f"{name}.csv"] * n, "row": np.arange(1, n + 1)})

    tables: dict[Any, pa.Table] = {"train": table(rows, "train"), "dev": table(dev, "dev"), "test": table(test, "test")}
    return Task("topics", "classify", "macro_f1", labels, tables)


@pytest.fixture(scope="session")
def task() -> Task:
    return make_task()


@pytest.fixture(scope="session")
def texts() -> list[str]:
    rng = np.random.default_rng(1)
    return [sentence(rng, rng.choice(list(TOPICS)), length=int(rng.integers(5, 60))) for _ in range(120)]


@pytest.fixture(scope="session")
def tokenizer(task: Task, texts: list[str]) -> Any:
    return make_tokenizer(Scratch("tiny", vocabulary=512), task, texts)


@pytest.fixture(scope="session")
def documents(tokenizer: Any, texts: list[str]) -> Encoded:
    return encode_documents(tokenizer, texts, 32)


@pytest.fixture(params=["modernbert", "bert"])
def spec(request: pytest.FixtureRequest) -> Scratch:
    return Scratch("tiny", architecture=request.param, vocabulary=512)


@pytest.fixture
def fresh(tokenizer: Any) -> Callable[[Scratch], Encoder]:
    """A fresh encoder, the same every time it is asked for."""
    return lambda spec: new_encoder(spec, tokenizer, 64, seed=0)


@pytest.fixture
def rng() -> np.random.Generator:
    return seeds.numpy_rng(0, "tests")
