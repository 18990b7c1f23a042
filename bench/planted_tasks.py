"""Tasks made up so that it is known which of them help another one, which harm it, and which do neither.

Run ``python bench/planted_tasks.py`` (minutes on one core). It trains small encoders on the target, alone and beside
each candidate, and prints for each the accuracy on the target's test rows, mean and standard error over seeds, and what
was gained on the target alone, paired by seed; in every training the target has the same number of batches.

Every text has five *telling* words and three *other* words, in any order. Each word has a hidden class, one of four,
given to it by chance: nothing in its form says which. The target asks whether most telling words are of the upper two
classes, and has too few rows to learn the class of every word. A candidate asks which class is the most frequent, or
which ones occur twice or more, and has many rows. What differs is whose classes:

- helpful: those of the telling words, as the target has them;
- harmful: those of the telling words, after half of the words of each class moved to the opposite one;
- irrelevant: those of the other words.

All texts are drawn alike, words of each group equally often, and each pair of tasks asks the same two questions: texts
without labels do not tell candidates apart. How often each label is given tells the irrelevant ones from the rest,
since a text has fewer other words, but not the helpful from the harmful.

Irrelevant tasks may still help a little, by keeping words that say nothing from being learned by heart: more so where
the target and they have twice the rows. So their place is between the other two, near nothing at the sizes given here.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from trivium import seeds
from trivium.core import Ints, Stage, Task
from trivium.encoders import Encoder, Scratch, train_tokenizer
from trivium.masking import RandomTokens
from trivium.training.evaluation import evaluate
from trivium.training.loop import run_stage
from trivium.training.recipes import make_stage

CLASSES, WORDS = 4, 64  # hidden classes; telling words, and as many others
TELLING, OTHERS = 5, 3  # words of a text
Pair = tuple[Task, Task]


@dataclass(frozen=True)
class Hidden:
    """What no task says: the class of each word.

    Attributes:
        telling: Words that the target depends on.
        others: Words that it does not.
        classes: Of the telling words, int64 ``[words]``.
        swapped: The same after half of each class moved to the opposite one, which is two further on.
        elsewhere: Classes of the others.
    """

    telling: tuple[str, ...]
    others: tuple[str, ...]
    classes: Ints
    swapped: Ints
    elsewhere: Ints


@dataclass(frozen=True)
class Planted:
    """A target and its candidates.

    Attributes:
        task: The target, with train, dev and test rows.
        helpful: Candidates that should be learned beside it; they and the others have training rows alone.
        harmful: Those that should not.
        irrelevant: Those with which it makes no difference.
        hidden: What the labels are made of.
    """

    task: Task
    helpful: Pair
    harmful: Pair
    irrelevant: Pair
    hidden: Hidden

    @property
    def candidates(self) -> tuple[Task, ...]:
        """All six, the helpful ones last, so that who cannot tell them apart gains nothing by their order."""
        return (*self.harmful, *self.irrelevant, *self.helpful)


def planted(seed: int, rows: int = 64, *, beside: int = 960, dev: int = 200, test: int = 2000) -> Planted:
    """Make a target and its candidates.

    Args:
        seed: Of words, classes and texts.
        rows: Training rows of the target.
        beside: Training rows of each candidate.
        dev: Dev rows of the target.
        test: Its test rows.
    """
    rng = seeds.numpy_rng(seed, "planted tasks")
    hidden = _hide(rng)
    sources = {"helpful": hidden.classes, "harmful": hidden.swapped, "irrelevant": hidden.elsewhere}
    target = {}
    for split, count in (("train", rows), ("dev", dev), ("test", test)):
        texts, telling, _ = _texts(rng, hidden, count)
        target[split] = _table(texts, side(hidden.classes[telling]).tolist())
    pairs: dict[str, list[Task]] = {role: [] for role in sources}
    for role, kind in product(sources, ("classify", "multilabel")):
        texts, telling, others = _texts(rng, hidden, beside)
        classes = sources[role][others if role == "irrelevant" else telling]
        labels = most(classes).tolist() if kind == "classify" else twice(classes)
        metric = "accuracy" if kind == "classify" else "micro_f1"
        names = tuple(f"class{i}" for i in range(CLASSES))
        pairs[role].append(Task(f"{role}-{kind}", kind, metric, names, {"train": _table(texts, labels)}))
    task = Task("target", "classify", "accuracy", ("lower", "upper"), target)
    return Planted(task, **{role: (one, other) for role, (one, other) in pairs.items()}, hidden=hidden)


def side(classes: Ints) -> Ints:
    """Whether most words of each row are of the upper two classes, int64 ``[rows]``."""
    return ((classes >= CLASSES // 2).mean(1) > 0.5).astype(np.int64)


def most(classes: Ints) -> Ints:
    """The most frequent class of each row, the lowest of several, int64 ``[rows]``."""
    return _counts(classes).argmax(1)


def twice(classes: Ints) -> list[list[int]]:
    """Which classes each row has two words of or more; perhaps none."""
    return [np.flatnonzero(row > 1).tolist() for row in _counts(classes)]


def _counts(classes: Ints) -> Ints:
    return (classes[:, :, None] == np.arange(CLASSES)).sum(1)


def _hide(rng: np.random.Generator) -> Hidden:
    syllables = ["".join(pair) for pair in product("bdfgklmnprstvz", "aeiou")]
    numbers = rng.choice(len(syllables) ** 3, 2 * WORDS, replace=False)
    places = np.stack(np.unravel_index(numbers, (len(syllables),) * 3), 1)
    words = tuple("".join(syllables[i] for i in word) for word in places)
    classes, elsewhere = (rng.permutation(np.arange(WORDS) % CLASSES) for _ in range(2))
    swapped = classes.copy()
    for number in range(CLASSES):
        of_class = rng.permutation(np.flatnonzero(classes == number))
        swapped[of_class[::2]] = (number + CLASSES // 2) % CLASSES
    return Hidden(words[:WORDS], words[WORDS:], classes, swapped, elsewhere)


def _texts(rng: np.random.Generator, hidden: Hidden, rows: int) -> tuple[list[str], Ints, Ints]:
    """Some texts, and which telling and which other words each has, int64 ``[rows, 5]`` and ``[rows, 3]``."""
    telling, others = _deal(rng, rows, TELLING), _deal(rng, rows, OTHERS)
    words = np.concatenate([np.array(hidden.telling)[telling], np.array(hidden.others)[others]], 1)
    return [" ".join(row) for row in rng.permuted(words, axis=1)], telling, others


def _deal(rng: np.random.Generator, rows: int, each: int) -> Ints:
    """Words for some rows, dealt from shuffled decks of all words, so that each occurs as often, give or take one."""
    decks = math.ceil(rows * each / WORDS)
    return np.concatenate([rng.permutation(WORDS) for _ in range(decks)])[: rows * each].reshape(rows, each)


def _table(texts: Sequence[str], labels: Sequence[Any]) -> pa.Table:
    rows = len(texts)
    return pa.table({"text": texts, "label": labels, "file": ["made"] * rows, "row": np.arange(1, rows + 1)})


@dataclass(frozen=True)
class Models:
    """Small encoders that know a little of the words already, as if from reading.

    Where a training starts, words of the same hidden class lie nearer each other than others do. So the target gets
    somewhere alone, and there is something to lose. All else is random.

    Attributes:
        tokenizer: Every word is one token of it.
        hidden: The words and their classes.
        known: Spread between classes in the embeddings of words, in units of the spread within.
        width: Of hidden states.
        layers: How many.
        heads: Attention heads in each.
    """

    tokenizer: Any
    hidden: Hidden
    known: float = 1.0
    width: int = 16
    layers: int = 1
    heads: int = 4

    @classmethod
    def of(cls, made: Planted, **changes: Any) -> "Models":
        """Encoders for some tasks."""
        texts = [text for task in (made.task, *made.candidates) for text in task.texts("train")]
        return cls(train_tokenizer(texts, 2048), made.hidden, **changes)

    def language(self, seed: int) -> Encoder:
        """Where every training starts."""
        from transformers import AutoModelForMaskedLM, ModernBertConfig

        special = {f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "cls", "sep")}
        config = ModernBertConfig(
            vocab_size=len(self.tokenizer), hidden_size=self.width, num_hidden_layers=self.layers,
            num_attention_heads=self.heads, intermediate_size=self.width,
            layer_types=["full_attention"] * self.layers, classifier_pooling="mean",
            initializer_range=(2 / (5 * self.width)) ** 0.5, max_position_embeddings=64, **special,
        )  # fmt: skip
        with seeds.torch_scope(seed, "planted tasks"):
            encoder = Encoder(AutoModelForMaskedLM.from_config(config), self.tokenizer)
            self._teach(encoder.backbone.get_input_embeddings().weight)
        return encoder

    def _teach(self, embeddings: torch.Tensor) -> None:
        about = ((self.hidden.telling, self.hidden.classes), (self.hidden.others, self.hidden.elsewhere))
        spread = self.known * embeddings.detach().std()
        with torch.no_grad():
            for words, classes in about:
                ids = self.tokenizer.convert_tokens_to_ids(list(words))
                assert self.tokenizer.unk_token_id not in ids, "every word is one token"
                centres = spread * torch.randn(CLASSES, self.width)
                embeddings[ids] += centres[torch.from_numpy(classes)]

    def stage(self, preset: str, **changes: Any) -> Stage:
        """A stage that suits them; it ends with the last weights, so that every training has all its turns."""
        suits = {
            "epochs": 8, "lr": 0.015, "batch_rows": 32, "max_length": 16, "dropout": 0.0,
            "patience": None, "keep_best": False, "evaluate_every": 10_000,
        }  # fmt: skip
        if "updates" in changes:
            del suits["epochs"]
        return make_stage({"preset": preset, **suits, **changes}, Scratch("tiny"), preset)

    def accuracy(self, task: Task, beside: Sequence[Task] = (), *, seed: int, **changes: Any) -> float:
        """Accuracy on the test rows of a task after learning it, beside others if there are any."""
        encoder = self.language(seed)
        stage = self.stage("multitask" if beside else "finetune", **changes)
        run_stage(encoder, stage, task, auxiliary=beside, masker=RandomTokens(), seed=seed)
        return evaluate(encoder, task).value


def measure(count: int, **changes: Any) -> Mapping[str, npt.NDArray[np.float64]]:
    """Accuracies on the target, ``[seeds]``, alone and beside each candidate; every seed has tasks of its own."""
    found: dict[str, list[float]] = {}
    for seed in range(count):
        made = planted(seed)
        models = Models.of(made, **changes)
        for candidate in (None, *made.candidates):
            name = candidate.name if candidate else "alone"
            beside = (candidate,) if candidate else ()
            found.setdefault(name, []).append(models.accuracy(made.task, beside, seed=seed))
    return {name: np.array(values) for name, values in found.items()}


def said(values: npt.NDArray[np.float64]) -> str:
    """Mean and standard error."""
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{values.mean():+.3f} ± {error:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.seeds, layers=options.layers)
    print(f"| beside | accuracy, {options.seeds} seeds | gained |\n|---|---|---|")
    for name, values in found.items():
        gained = "" if name == "alone" else said(values - found["alone"])
        print(f"| {name} | {said(values).removeprefix('+')} | {gained} |")


if __name__ == "__main__":
    main()
