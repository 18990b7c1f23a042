"""Answers for new rows, from any transformers model with a head of one of our kinds: ours or not."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from trivium.encoders.encoder import inputs_of, load_head, load_tokenizer, logits_of, read_cut, torch_device
from trivium.encoders.streams import collate, cut
from trivium.errors import ArtifactError, DataError
from trivium.kinds import KINDS
from trivium.kinds.kind import Rows
from trivium.store import demand_unchanged
from trivium.training.evaluation import BATCH_TOKENS

BATCH = 2048  # rows that are tokenised and sorted by length together: enough to pad little, little enough to hold
_OF_HEAD = {"ForMultipleChoice": "rank", "ForTokenClassification": "tag", "ForQuestionAnswering": "span"}
_OF_PROBLEM = {"regression": "regress", "multi_label_classification": "multilabel"}


class Predictor:
    """A model folder, ready to answer.

    Attributes:
        kind: What kind of task it was trained for: as its config says, or by its class if somebody else trained it.
        labels: The label names, in the order of its logits.
    """

    def __init__(self, folder: Path | str) -> None:
        if not (Path(folder) / "config.json").exists():
            raise ArtifactError(
                f"{folder}: expected a model folder, with config.json and weights. A study keeps its models "
                "under runs/<study>/models/<arm>/seed-<n>."
            )
        demand_unchanged(Path(folder))
        self.tokenizer = load_tokenizer(str(folder))
        self.model = load_head(folder)
        self.device = torch.device(torch_device())
        self.model.eval().to(self.device)
        self.config = self.model.config
        self.labels = [self.config.id2label[i] for i in range(self.config.num_labels)]
        kept, self.cut = read_cut(self.config, self.tokenizer)
        self.kind = kept or _kind_of_model(self.model)
        self.types = getattr(self.config, "type_vocab_size", 0) > 1

    def answers(self, rows: Sequence[Mapping[str, Any]], first: int = 1) -> tuple[Rows, Rows]:
        """What the model says of each row, and how sure it is, in the order of the rows; see the kinds.

        Args:
            rows: Each with ``text``, and ``text_pair``, ``choices`` or ``tokens`` where the kind asks for them.
            first: The number of the first of them, for messages.

        Raises:
            ArtifactError: the model answers rows of another kind.
            DataError: a row lacks what the first one has; it names the row.
        """
        kind, table = KINDS[self.kind], _table(self.kind, rows, first)
        encoded = kind.encode(self.tokenizer, table, self.labels, self.cut)
        order = np.argsort(encoded.lengths, kind="stable")
        said: list[Any] = [None] * len(rows)
        sure: list[Any] = [None] * len(rows)
        with torch.inference_mode():
            for block in cut(order, encoded, None, BATCH_TOKENS.get(self.device.type, 8192)):
                batch = collate(encoded, block, self.tokenizer.pad_token_id, types=self.types).to(self.device)
                one, two = kind.decode(logits_of(self.model, inputs_of(batch)), batch)
                for row, each, chance in zip(block, one, two, strict=True):
                    said[row], sure[row] = each, chance
        return kind.read(said, table, self.config), sure


def predict(model: Path | str, rows: Iterable[dict[str, Any]], *, batch: int = BATCH) -> Iterator[dict[str, Any]]:
    """Answer rows one after the other, in bounded memory.

    Where rows cannot be read on, those before are answered first.

    Args:
        model: A model folder.
        rows: Each with ``text`` and perhaps ``text_pair``; with ``choices`` for a multiple choice, with ``tokens`` for
            tags; for answers in a context, ``text`` is the question and ``text_pair`` the context. What is in ``kept``
            comes back with the answer.
        batch: Most rows that are held and answered together. Answers come when so many rows are there, or all.

    Yields:
        For every row, in order, what was kept and the answer:
        ``{"label": name, "probability": p, "probabilities": {name: p}}`` of a classification;
        ``{"labels": [name, …], "probabilities": …}`` of any number of labels; ``{"score": x}`` of a regression;
        ``{"choice": i, "probabilities": [p, …]}``; ``{"tags": [name, …], "probabilities": [p, …]}``;
        ``{"answer": text, "probability": p}``.

    Raises:
        ArtifactError: the folder holds no model with such a head, or not what the study wrote there.
        DataError: a row is not what it should be, or one that is kept is called as a part of the answer is.
    """
    predictor, done = Predictor(model), 0
    for block in _blocks(iter(rows), batch):
        for row, said, sure in zip(block, *predictor.answers(block, done + 1), strict=True):
            yield _beside(row.get("kept", {}), _answer(predictor.kind, predictor.labels, said, sure))
        done += len(block)


def _blocks(rows: Iterator[dict[str, Any]], most: int) -> Iterator[list[dict[str, Any]]]:
    """So many rows at a time; those before one that cannot be read come before the error does."""
    while True:
        block: list[dict[str, Any]] = []
        error = None
        try:
            for row in islice(rows, most):
                block.append(row)  # noqa: PERF402  # so that rows before an error are not lost
        except DataError as found:
            error = found
        if block:
            yield block
        if error is not None:
            raise error
        if len(block) < most:
            return


def _beside(kept: Mapping[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    clash = [name for name in kept if name in answer]
    if clash:
        raise DataError(
            f"--keep: expected other names than the answer's own ({', '.join(answer)}), found '{clash[0]}'. Keep it "
            f"under another name: --keep {clash[0]}=given."
        )
    return {**kept, **answer}


def _answer(kind: str, labels: Sequence[str], said: Any, sure: Any) -> dict[str, Any]:
    chances = [round(float(p), 6) for p in sure]
    if kind == "classify":
        named = dict(zip(labels, chances, strict=True))
        label = labels[int(said)]
        return {"label": label, "probability": named[label], "probabilities": named}
    if kind == "multilabel":
        chosen = [label for label, yes in zip(labels, said, strict=True) if yes]
        return {"labels": chosen, "probabilities": dict(zip(labels, chances, strict=True))}
    if kind == "regress":
        return {"score": float(said)}
    if kind == "rank":
        return {"choice": int(said[0]), "probabilities": chances}
    if kind == "tag":
        return {"tags": [labels[i] if i >= 0 else None for i in said], "probabilities": chances}
    return {"answer": said, "probability": chances[0]}


def _table(kind: str, rows: Sequence[Mapping[str, Any]], first: int) -> pa.Table:
    """Rows as a kind wants them."""
    needed = {"rank": ["text", "choices"], "tag": ["tokens"], "span": ["text", "text_pair"]}.get(kind, ["text"])
    names = [*needed, *(["text_pair"] if "text_pair" in rows[0] and "text_pair" not in needed else [])]
    missing = [name for name in needed if name not in rows[0]]
    if missing:
        raise ArtifactError(
            f"the model answers rows of kind '{kind}', with {' and '.join(needed)}; found rows with "
            f"{', '.join(rows[0])}. Name the columns so."
        )
    for number, row in enumerate(rows, first):
        empty = [name for name in names if row.get(name) is None]
        if empty:
            raise DataError(
                f"row {number}: expected {' and '.join(names)}, as other rows have, found no {' and no '.join(empty)}. "
                "Fill it, or leave the row out."
            )
    return pa.table({name: [row[name] for row in rows] for name in names})


def _kind_of_model(model: Any) -> str:
    """The kind of task that a model answers, by its class and its problem.

    Raises:
        ArtifactError: none of ours.
    """
    name = type(model).__name__
    for ending, kind in _OF_HEAD.items():
        if name.endswith(ending):
            return kind
    if name.endswith("ForSequenceClassification"):
        config = model.config
        return _OF_PROBLEM.get(config.problem_type or "", "regress" if config.num_labels == 1 else "classify")
    raise ArtifactError(f"expected a model that classifies, tags, ranks or answers; found a {name}.")
