"""Texts as vectors, by any encoder of transformers; those of a corpus are made once and kept.

A corpus' vectors lie in the cache, some thousand documents in a file, each file written whole: what was killed goes on
where it was. Two bytes for each number: ten million documents and an encoder of width 384 take 8 GB of disk.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from trivium import seeds
from trivium.core import Corpus, digest
from trivium.errors import ConfigError
from trivium.pretrained import UNREADABLE, content, locate, quietly, reason, safely
from trivium.store import cache_folder, read_array, write_array

if TYPE_CHECKING:
    from torch import Tensor

Shorts = npt.NDArray[np.int16]

BLOCK = 8192  # documents in a file
ONE = 32767  # how a vector's 1 is written

_VERSION = 1  # of what this module makes of a text; a new one makes every file anew


@dataclass(frozen=True)
class Embedder:
    """An encoder that makes a vector of a text: the mean of its last hidden states, scaled to length 1.

    Attributes:
        name: A folder, or a name on the Hugging Face hub.
        content: What the vectors depend on beside the texts.
        tokenizer: Cuts texts into pieces.
        model: Gives hidden states.
        max_length: Pieces of a text that are read; the rest is left out.
        batch_tokens: Pieces, padding included, that are read at once.
    """

    name: str
    content: str
    tokenizer: Any
    model: Any
    max_length: int
    batch_tokens: int

    @classmethod
    def load(cls, name: str, max_length: int, batch_tokens: int) -> Self:
        """Load an encoder and its tokenizer; onto a GPU, if there is one.

        Raises:
            ConfigError: it cannot be loaded, or cannot read texts so long.
        """
        import torch
        from transformers import AutoModel, AutoTokenizer

        place = locate(name)
        try:
            with (
                quietly(warnings=False),
                seeds.torch_scope(0, "embedder"),
            ):  # a head that is not used may be drawn at random
                tokenizer = AutoTokenizer.from_pretrained(place, **safely(place))  # nosec B615  # its version is kept
                model = AutoModel.from_pretrained(place, dtype=torch.float32, **safely(place))  # nosec B615
        except UNREADABLE as error:
            raise ConfigError(
                "documents.encoder: expected a model and its tokenizer in the folder, or under the hub name, "
                f"'{name}'; found: {reason(error)} Give a folder that holds config.json, model.safetensors and "
                "tokenizer.json."
            ) from error
        longest = min(tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None) or max_length)
        if max_length > longest:
            raise ConfigError(
                f"documents.max_length: expected at most {longest}, which '{name}' reads; found {max_length}."
            )
        model = model.encoder if hasattr(model, "encoder") and hasattr(model, "decoder") else model
        model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        version = getattr(model.config, "_commit_hash", None)
        kept = content(Path(place)) if Path(place).is_dir() else digest([name, version])
        return cls(name, kept, tokenizer, model, max_length, batch_tokens)

    def vectors(self, texts: Sequence[str]) -> "Tensor":
        """Make a vector of each text, float32 ``[texts, width]``, on the CPU.

        Raises:
            ConfigError: the encoder gives no numbers for a text.
        """
        import torch

        pieces = self._pieces(texts)
        made = torch.zeros(len(texts), self.model.config.hidden_size)
        for batch in _batches([len(piece) for piece in pieces], self.batch_tokens):
            made[torch.tensor(batch)] = self._mean([pieces[i] for i in batch])
        if not torch.isfinite(made).all():
            bad = texts[int((~torch.isfinite(made)).any(1).nonzero()[0])]
            raise ConfigError(
                f"documents.encoder: '{self.name}' gives no numbers for the text '{bad[:80]}'. Use another."
            )
        return made

    def _pieces(self, texts: Sequence[str]) -> list[list[int]]:
        """Numbers of the pieces of each text; of one without any, a gap."""
        gap = self.tokenizer.pad_token_id or 0
        found = self.tokenizer(list(texts), truncation=True, max_length=self.max_length)["input_ids"] if texts else []
        return [list(piece) or [gap] for piece in found]

    def _mean(self, pieces: Sequence[Sequence[int]]) -> "Tensor":
        """The mean over what is no padding, of each row of a batch, scaled to length 1."""
        import torch
        from torch.nn.functional import normalize

        ids = torch.full((len(pieces), max(map(len, pieces))), self.tokenizer.pad_token_id or 0)
        attention = torch.zeros_like(ids)
        for row, piece in enumerate(pieces):
            ids[row, : len(piece)] = torch.tensor(piece)
            attention[row, : len(piece)] = 1
        device = next(self.model.parameters()).device
        ids, attention = ids.to(device), attention.to(device)
        with torch.inference_mode():
            hidden = self.model(input_ids=ids, attention_mask=attention).last_hidden_state
            weights = attention[:, :, None].float()
            return normalize((hidden.float() * weights).sum(1) / weights.sum(1)).cpu()


def corpus_vectors(
    corpus: Corpus, embedder: Embedder, progress: Callable[[int], None] | None = None
) -> Iterator[Shorts]:
    """The vectors of a corpus, block by block: those that are kept, and those that are made now.

    Args:
        corpus: The corpus.
        embedder: Makes vectors.
        progress: Called after each block with how many documents are done.

    Yields:
        As ``whole`` makes them, ``[at most BLOCK, width]``, memory-mapped, of the documents in order.

    Raises:
        ConfigError: there is no room to keep them.
    """
    key = digest([_VERSION, corpus.fingerprint, embedder.content, embedder.max_length])
    folder = cache_folder() / "vectors" / key
    width = embedder.model.config.hidden_size
    for number, start in enumerate(range(0, len(corpus), BLOCK)):
        path, rows = folder / f"{number:06d}.npy", min(BLOCK, len(corpus) - start)
        if (kept := read_array(path, (rows, width), np.int16)) is None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with FileLock(folder / ".lock"):
                    for scratch in folder.glob(".tmp-*"):  # a crash left it
                        scratch.unlink()
                    if read_array(path, (rows, width), np.int16) is None:  # no rival process made it while we waited
                        texts = corpus.table["text"].slice(start, rows).to_pylist()
                        write_array(path, whole(embedder.vectors(texts)))
            except OSError as error:
                raise ConfigError(
                    f"documents: expected a cache folder with room for the vectors, found that {folder} is none "
                    f"({error}). Name another in the environment variable TRIVIUM_CACHE."
                ) from error
            kept = read_array(path, (rows, width), np.int16)
            assert kept is not None
        yield kept
        if progress:
            progress(start + rows)


def whole(vectors: "Tensor") -> Shorts:
    """Vectors of length 1 as whole numbers of 1/32767, so that sums of their products are exact in float64."""
    return np.asarray(np.rint(vectors.numpy() * ONE), np.int16)


def _batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Rows of about the same length together, shortest first, as many as fit when padded; at least one."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[row] > most:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
