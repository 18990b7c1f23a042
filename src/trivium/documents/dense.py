"""Nearest neighbours: documents whose vectors lie closest to those of the training texts."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from trivium.core import Corpus, Queries
from trivium.documents.protocol import Budget, Progress, Ranking
from trivium.documents.union import Union
from trivium.documents.vectors import ONE, Embedder, Shorts, corpus_vectors, whole
from trivium.errors import ConfigError, DataError

_TOGETHER = 1 << 22  # pairs of query and document compared at a time: 100 MB
_LOW = (1 << 32) - 1


@dataclass(frozen=True)
class Dense:
    """The documents whose meaning is nearest to that of the training texts, as an encoder sees it.

    A text's vector is the mean of an encoder's last hidden states; every training text asks for the documents of
    greatest cosine. All are compared, none is guessed. Documents are then taken as with ``BM25``: first what is
    somebody's nearest, then what is somebody's second, and so on; of equal rank the greater cosine first, then the
    lower id. kNN-TAPT (Gururangan et al. 2020) does so with vectors of another kind, and reads 50 to 500 for each row.

    The vectors of a corpus are kept in the cache, named by the corpus and the content of the encoder's folder.

    Attributes:
        encoder: A folder with a model and its tokenizer, anything ``AutoModel`` loads, or a name on the Hugging Face
            hub. One that was trained to compare sentences serves best.
        per_query: How many documents each training text may ask for.
        max_length: Tokens of a text that are read; the rest is left out.
        batch_tokens: Tokens, padding included, that are read at once; less needs less memory.
        max_documents: At most so many documents.
        max_tokens: At most so many words (see ``Budget``: words, because no tokenizer exists yet).
        max_bytes: At most so many bytes of text.
    """

    seeded: ClassVar[bool] = False

    encoder: str
    per_query: int = 50
    max_length: int = 128
    batch_tokens: int = 16_384
    max_documents: int | None = None
    max_tokens: int | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        for key, least in (("per_query", 1), ("max_length", 8), ("batch_tokens", 1)):
            if getattr(self, key) < least:
                raise ConfigError(f"documents.{key}: expected at least {least}, found {getattr(self, key)}.")
        if not self.encoder:
            raise ConfigError("documents.encoder: expected a folder or a hub name, found nothing.")
        Budget.of(self)  # says what is wrong with it

    def rank(
        self, corpus: Corpus, queries: Queries, rng: np.random.Generator, progress: Progress | None = None
    ) -> Ranking:
        """Make what vectors are missing, compare all documents with all training texts, and put the hits in order.

        Raises:
            ConfigError: the encoder cannot be loaded, or its vectors cannot be kept.
            DataError: there is no training text.
        """
        if not queries.texts:
            raise DataError(f"task '{queries.task}': expected training texts, found none.")
        size = len(corpus)
        embedder = Embedder.load(self.encoder, self.max_length, self.batch_tokens)
        asked = whole(embedder.vectors(queries.texts))
        blocks = corpus_vectors(corpus, embedder, None if progress is None else lambda done: progress(done, size))
        union = Union(size)
        union.take(*nearest(asked, blocks, min(self.per_query, size)))  # a block is compared as soon as it is made
        return union.ranking()


def nearest(queries: Shorts, blocks: Iterable[Shorts], k: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """The documents of greatest cosine with each query: greatest first, then lowest id.

    Exact, in one pass over the documents: products are sums of whole numbers, never rounded, so that the hits are the
    same whatever the machine, the threads and the blocks. Beside a block it holds the queries and 8 bytes for each hit.

    Args:
        queries: Vectors as ``vectors.whole`` makes them, ``[queries, width]``.
        blocks: Those of the documents, some at a time, ``[documents, width]``.
        k: How many to find for each, no more than there are documents.

    Returns:
        Ids and cosines, ``[queries, k]``.

    >>> documents = np.array([[0, 32767], [32767, 0], [0, 32767]], np.int16)
    >>> ids, cosines = nearest(documents[:1], [documents[:2], documents[2:]], k=3)
    >>> ids.tolist(), cosines.tolist()
    ([[0, 2, 1]], [[1.0, 1.0, 0.0]])
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    asked = torch.from_numpy(queries).to(device)
    held = torch.zeros((len(queries), 0), dtype=torch.int64, device=device)
    first = 0
    for block in blocks:
        documents = torch.from_numpy(block.astype(np.float64)).to(device)
        order = _LOW - torch.arange(first, first + len(block), device=device)  # of equals, the lower id is the greater
        many = max(1, _TOGETHER // len(block))
        hits = []
        for start in range(0, len(asked), many):
            products = (asked[start : start + many].double() @ documents.T).long()
            keys = torch.cat([held[start : start + many], (products << 32) | order], dim=1)
            hits.append(keys.topk(min(k, keys.shape[1]), dim=1).values)
        held = torch.cat(hits)
        first += len(block)
    ids, cosines = _LOW - (held & _LOW), (held >> 32).double() / ONE**2
    return ids.int().cpu().numpy(), cosines.float().cpu().numpy()
