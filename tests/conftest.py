"""Tiny data and models, made in memory."""

import csv
import json
import os
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from trivium import seeds
from trivium.core import SPLITS, Task
from trivium.encoders import train_tokenizer
from trivium.kinds import Encoded
from trivium.training import Encoder, Scratch, encode_documents, make_tokenizer, new_encoder

OFFLINE = Path(__file__).parent / "offline"
sys.path.append(str(OFFLINE))
os.environ["TRIVIUM_PRECISION"] = "float32"  # what is to be equal is so to more digits, on any processor
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH")]))  # for workers

import no_network  # noqa: E402  # it lies in the folder that was just named

no_network.refuse()
torch.set_num_threads(1)  # tiny models are no faster on two, and tests run side by side

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


class Spy(Task):
    """A task that remembers which splits were asked for, of itself and of what is sealed of it."""

    opened: list[str] = []  # noqa: RUF012  # replaced by ``on``

    @classmethod
    def on(cls, task: Task) -> "Spy":
        spy = cls(**{field.name: getattr(task, field.name) for field in fields(task)})
        vars(spy)["opened"] = []
        return spy

    def rows(self, split: Any) -> pa.Table:
        self.opened.append(split)
        return super().rows(split)

    def sealed(self) -> "Spy":
        sealed = Spy.on(super().sealed())
        vars(sealed)["opened"] = self.opened
        return sealed


@pytest.fixture(scope="session")
def task() -> Task:
    return make_task()


@pytest.fixture(scope="session")
def texts() -> list[str]:
    rng = np.random.default_rng(1)
    return [sentence(rng, rng.choice(list(TOPICS)), length=int(rng.integers(5, 60))) for _ in range(120)]


@pytest.fixture(scope="session")
def trained_tokenizer(task: Task, texts: list[str]) -> Any:
    return make_tokenizer(Scratch("tiny", vocabulary=512), task, texts)


@pytest.fixture(scope="module")
def tokenizer(trained_tokenizer: Any) -> Any:
    """A module's own, since who trains with one writes into it how long inputs are."""
    return deepcopy(trained_tokenizer)


@pytest.fixture(scope="session")
def documents(trained_tokenizer: Any, texts: list[str]) -> Encoded:
    return encode_documents(trained_tokenizer, texts, 32)


@pytest.fixture(params=["modernbert", "bert"])
def spec(request: pytest.FixtureRequest) -> Scratch:
    return Scratch("tiny", architecture=request.param, vocabulary=512)


@pytest.fixture
def fresh(tokenizer: Any) -> Callable[[Scratch], Encoder]:
    """A fresh encoder, the same every time it is asked for."""
    return lambda spec: new_encoder(spec, tokenizer, 64, seed=0)


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny encoder, as somebody might have pretrained it."""
    from transformers import AutoModelForMaskedLM, BertConfig

    folder = tmp_path_factory.mktemp("pretrained")
    tokenizer = train_tokenizer(make_task(60).texts("train"), 512)
    with seeds.torch_scope(0, "pretrained"):
        config = BertConfig(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48
        )
        AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def rng() -> np.random.Generator:
    return seeds.numpy_rng(0, "tests")


def write_files(folder: Path, task: Task, texts: Sequence[str]) -> None:
    """The task as ``reviews/{train,dev,test}.csv`` and documents as ``corpus.jsonl``, as a user would have them."""
    (folder / "reviews").mkdir(parents=True)
    for split in SPLITS:
        rows = task.rows(split)
        with (folder / "reviews" / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            labels = [task.labels[i] for i in rows["label"].to_pylist()]
            writer.writerows(zip(rows["text"].to_pylist(), labels, strict=True))
    lines = [json.dumps({"text": text, "source": f"s{i % 3}"}) for i, text in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("\n".join(lines) + "\n")


def tiny_study(data: Path) -> dict[str, Any]:
    """A study file's contents that takes a second or two to run."""
    joint = {"preset": "tlm-joint", "updates": 8, "mix": {"documents": 3, "task": 1}, "batch_tokens": 512}
    tune = {"preset": "finetune", "updates": 8, "batch_rows": 8}
    study = {
        "name": "tiny",
        "seeds": 2,
        "task": {"path": str(data / "reviews")},
        "corpus": str(data / "corpus.jsonl"),
        "encoder": {"scratch": "tiny", "vocabulary": 512},
        "arms": {
            "finetune": {"stages": [tune]},
            "random": {"documents": {"kind": "random", "max_tokens": 800}, "stages": [joint, tune]},
            "tlm": {"documents": {"kind": "bm25", "per_query": 5, "max_tokens": 800}, "stages": [joint, tune]},
        },
        "engine": {"workers": 1},
    }
    own: dict[str, Any] = json.loads(json.dumps(study))  # no two arms share a stage that a test may change
    return own


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory, task: Task, texts: list[str]) -> Path:
    """A folder with a task and a corpus."""
    folder = tmp_path_factory.mktemp("data")
    write_files(folder, task, texts)
    return folder


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test writes into the user's cache."""
    monkeypatch.setenv("TRIVIUM_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Whoever may open sockets may also connect, in all processes; said before fixtures of a module are made."""
    os.environ["TRIVIUM_TESTS_CONNECT"] = "1" if item.get_closest_marker("enable_socket") else ""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of its own: messages name files as the user wrote them."""
    monkeypatch.chdir(tmp_path)


def write_lines(path: str, rows: Sequence[dict[str, Any]]) -> str:
    """Rows as JSON lines, in a file whose folder is made."""
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
