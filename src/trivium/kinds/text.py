"""From strings to token arrays, with any fast tokenizer."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trivium.kinds.kind import Encoded

_BLOCK = 4096  # texts handed to the tokenizer at a time: enough to keep it busy, little enough to hold


def tokenize(
    tokenizer: Any,
    texts: Sequence[str],
    max_length: int,
    *,
    pairs: Sequence[str] | None = None,
    labels: npt.NDArray[np.int64] | None = None,
    windows: bool = False,
) -> Encoded:
    """Tokenise texts end to end.

    Args:
        tokenizer: A fast transformers tokenizer.
        texts: The texts.
        max_length: Longest input in tokens, special tokens included.
        pairs: Second text of each row, if rows are pairs.
        labels: What the rows are labelled with, handed through.
        windows: Cut a longer text into several windows, losing nothing; otherwise it is cut at ``max_length``.

    Returns:
        One entry per text, or per window.
    """
    ids: list[npt.NDArray[np.int32]] = []
    words: list[npt.NDArray[np.int32]] = []
    types: list[npt.NDArray[np.uint8]] = []
    lengths: list[int] = []
    for encoding in _encodings(tokenizer, texts, pairs, max_length, windows):
        ids.append(np.asarray(encoding.ids, np.int32))
        words.append(_words(encoding))
        types.append(np.asarray(encoding.type_ids, np.uint8))
        lengths.append(len(encoding.ids))
    empty = np.zeros(0, np.int32)
    return Encoded(
        np.concatenate([empty, *ids]),
        np.concatenate([empty, *words]),
        np.concatenate([empty.astype(np.uint8), *types]),
        np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))]).astype(np.int64),
        labels,
    )


def _encodings(
    tokenizer: Any, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int, windows: bool
) -> Iterator[Any]:
    for start in range(0, len(texts), _BLOCK):
        block = slice(start, start + _BLOCK)
        encoded = tokenizer(
            list(texts[block]),
            None if pairs is None else list(pairs[block]),
            truncation=True,
            max_length=max_length,
            return_overflowing_tokens=windows,
        )
        yield from encoded.encodings  # a text's further windows stand among them, after its first


def _words(encoding: Any) -> npt.NDArray[np.int32]:
    """Word of each token, counted through both texts of a pair; -1 for special tokens."""
    words = np.asarray([-1 if word is None else word for word in encoding.word_ids], np.int32)
    second = np.asarray([place == 1 for place in encoding.sequence_ids])
    if second.any():
        words[second] += words[~second].max(initial=-1) + 1
    return words
