"""Tasks made up so that it is known what to hide: one where hiding a class of words helps, one where none does.

A text has a few *signal* words, whose form says to which of two groups each belongs, among many fillers. A label is
given to few texts. Filling the gaps of signal words teaches which of them go together, and so what a label says of the
words that no labelled text has; filling those of fillers, which are drawn at random, teaches nothing.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from trivium import seeds
from trivium.core import Stage, Task
from trivium.encoders import Encoder, Scratch, train_tokenizer
from trivium.kinds import Batch
from trivium.masking import Known, RandomTokens
from trivium.masking.units import Units
from trivium.masking.words import spelled
from trivium.nmg import NMG
from trivium.training.loop import run_stage
from trivium.training.recipes import make_stage

SIGNAL = "sign"
LENGTH, SIGNALS, EACH, FILLERS = 12, 4, 10, 40  # words of a text, signal words among them, of a group, other words

FAST = NMG(
    rate=1 / 6, contexts=150, rows=20, max_length=16, batch_rows=16, validation_rows=200,
    fill_epochs=10, fill_rate=0.01, finetune_epochs=5, finetune_rate=0.003,
    episodes=16, patience=False, assess=6, lr=0.02,
)  # fmt: skip


def planted(rows: int = 1000, *, seed: int = 0, null: bool = False) -> Task:
    """The task where hiding signal words helps; ``null``: where all words are alike, and say nothing of the label."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, rows)
    texts = []
    for label in labels:
        sought = [
            f"{SIGNAL}{_letters(i)}{'xy'[group]}" for group in ((0, 1) if null else (label,)) for i in range(EACH)
        ]
        others = [f"w{_letters(i)}" for i in range(FILLERS)]
        if null:
            words = rng.choice([*sought, *others], LENGTH)
        else:
            words = np.append(rng.choice(sought, SIGNALS), rng.choice(others, LENGTH - SIGNALS))
        texts.append(" ".join(rng.permutation(words)))
    table = pa.table({"text": texts, "label": labels, "file": ["made"] * rows, "row": np.arange(1, rows + 1)})
    return Task("null" if null else "planted", "classify", "accuracy", ("x", "y"), {"train": table})


def _letters(number: int) -> str:
    return "abcdefghij"[number // 10] + "abcdefghij"[number % 10]


@dataclass(frozen=True)
class Toy:
    """Encoders of one narrow layer with random weights; nothing of them was trained (``masking.Models``)."""

    tokenizer: Any
    seed: int = 0
    width: int = 48

    def language(self) -> Encoder:
        """The random encoder."""
        from transformers import AutoModelForMaskedLM, ModernBertConfig

        special = {f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "cls", "sep")}
        config = ModernBertConfig(
            vocab_size=len(self.tokenizer), hidden_size=self.width, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=self.width, layer_types=["full_attention"], classifier_pooling="mean",
            initializer_range=(2 / (5 * self.width)) ** 0.5, max_position_embeddings=64, **special,
        )  # fmt: skip
        with seeds.torch_scope(self.seed, "toy"):
            return Encoder(AutoModelForMaskedLM.from_config(config), self.tokenizer)

    def adapted(self) -> Encoder:
        """The same."""
        return self.language()

    def finetuned(self, task: Task) -> Encoder:
        """The same after learning the training rows of a task."""
        encoder = self.language()
        stage = self.stage("finetune", epochs=3, lr=0.003, max_length=16, patience=None)
        run_stage(encoder, stage, task, masker=RandomTokens(), seed=self.seed)
        return encoder

    def stage(self, preset: str, **changes: Any) -> Stage:
        """A stage for small encoders."""
        return make_stage({"preset": preset, **changes}, Scratch("tiny"), preset)


def known(task: Task, seed: int = 0) -> Known:
    """What a policy may know of the task."""
    texts, _ = task.passages()
    tokenizer = train_tokenizer(texts, 2048)
    return Known.of(task, texts, tokenizer, Toy(tokenizer, seed), seed=seed)


def signals(batch: Batch, units: Units, tokenizer: Any) -> Tensor:
    """Which units are signal words, bool ``[texts, width]``."""
    found = torch.zeros_like(units.there)
    for text, unit in units.there.nonzero().tolist():
        found[text, unit] = spelled(tokenizer, batch.ids[text][units.of[text] == unit].tolist()).startswith(SIGNAL)
    return found


def lift(masker: Any, about: Known, texts: int = 300) -> float:
    """How many times as much of what is hidden is signal words as where units are hidden at random."""
    from trivium.encoders.streams import collate
    from trivium.kinds.text import tokenize

    encoded = tokenize(about.tokenizer, about.texts[:texts], 64, windows=True)
    batch = collate(encoded, np.arange(len(encoded)), about.tokenizer.pad_token_id, types=False)
    units = Units.in_batch(batch)
    sought = signals(batch, units, about.tokenizer)
    hidden = units.total(masker.choose(batch, seeds.torch_rng(0, "lift")).float()) > 0
    return float((hidden & sought).sum() / hidden.sum() / (sought.sum() / units.there.sum()))
