"""Labels for new rows, from any transformers classification model: ours or not."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trivium.errors import ArtifactError
from trivium.kinds.text import tokenize
from trivium.training.encoder import load_tokenizer, quietly, torch_device
from trivium.training.streams import collate

_BLOCK, _ROWS = 2048, 32


class Predictor:
    """A model folder, ready to label texts.

    Attributes:
        labels: The label names, in the order of the probabilities.
    """

    def __init__(self, folder: Path | str) -> None:
        from transformers import AutoModelForSequenceClassification

        if not (Path(folder) / "config.json").exists():
            raise ArtifactError(
                f"{folder}: expected a model folder with config.json and model.safetensors. A study keeps its models "
                "under runs/<study>/models/<arm>/seed-<n>."
            )
        self.tokenizer = load_tokenizer(str(folder))
        try:
            with quietly():
                self.model: Any = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{folder}: expected a classification model, found: {error}") from None
        self.device = torch.device(torch_device())
        self.model.eval().to(self.device)
        config = self.model.config
        self.labels = [config.id2label[i] for i in range(config.num_labels)]
        self.types = getattr(config, "type_vocab_size", 0) > 1
        positions = getattr(config, "max_position_embeddings", 512)
        self.max_length = min(self.tokenizer.model_max_length, positions)

    def probabilities(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Any:
        """The probability of every label, float32 ``[texts, labels]``, in the order of the texts."""
        encoded = tokenize(self.tokenizer, texts, self.max_length, pairs=pairs)
        order = np.argsort(encoded.lengths, kind="stable")
        found = np.zeros((len(texts), len(self.labels)), np.float32)
        with torch.inference_mode():
            for start in range(0, len(order), _ROWS):
                rows = order[start : start + _ROWS]
                batch = collate(encoded, rows, self.tokenizer.pad_token_id, types=self.types).to(self.device)
                types = {} if batch.types is None else {"token_type_ids": batch.types}
                logits = self.model(input_ids=batch.ids, attention_mask=batch.attention.long(), **types).logits
                found[rows] = logits.float().softmax(-1).cpu().numpy()
        return found


def predict(model: Path | str, rows: Iterator[dict[str, str]]) -> Iterator[dict[str, Any]]:
    """Label rows one after the other, in bounded memory.

    Args:
        model: A model folder.
        rows: Each with ``text`` and perhaps ``text_pair``.

    Yields:
        ``{"label": name, "probability": p, "probabilities": {name: p}}`` for every row, in order.

    Raises:
        ArtifactError: the folder holds no classification model.
    """
    predictor = Predictor(model)
    while block := list(islice(rows, _BLOCK)):
        pairs = [row["text_pair"] for row in block] if "text_pair" in block[0] else None
        for chances in predictor.probabilities([row["text"] for row in block], pairs):
            best = int(chances.argmax())
            named = {label: round(float(p), 6) for label, p in zip(predictor.labels, chances, strict=True)}
            yield {
                "label": predictor.labels[best],
                "probability": named[predictor.labels[best]],
                "probabilities": named,
            }
