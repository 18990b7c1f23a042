"""From strings to token arrays, with any fast tokenizer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trivium.kinds.kind import Cut, Encoded

_BLOCK = 4096  # texts handed to the tokenizer at a time: enough to keep it busy, little enough to hold


@dataclass(frozen=True)
class _Sought:
    """The words of a row whose tokens somebody named beforehand: where each begins and ends in the row's text."""

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]

    def of(self, pieces: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
        """The word that the last letter of each piece belongs to, ``[pieces]``; -1 where there is none."""
        if len(self.starts) == 0:
            return np.full(len(pieces), -1, np.int32)
        last = np.maximum(pieces[:, 1] - 1, pieces[:, 0])
        word = np.searchsorted(self.starts, last, side="right") - 1
        return np.where((word >= 0) & (last < self.ends[word]), word, -1).astype(np.int32)


def tokenize(
    tokenizer: Any,
    texts: Sequence[str],
    max_length: int,
    *,
    pairs: Sequence[str] | None = None,
    labels: npt.NDArray[Any] | None = None,
    windows: bool = False,
) -> Encoded:
    """Tokenise texts end to end, each row one text, or one for each of its windows.

    Args:
        tokenizer: A fast transformers tokenizer.
        texts: The texts.
        max_length: Longest input in tokens, special tokens included.
        pairs: Second text of each row, if rows are pairs.
        labels: What the rows are labelled with, handed through.
        windows: Cut a longer text into several windows that share nothing, each a row of its own, whose ``origins``
            tell the text; otherwise it is cut at ``max_length``.
    """
    laid, origins = _Laid(), [np.zeros(0, np.int64)]
    for row, start, end in _blocks(len(texts)):
        block = None if pairs is None else list(pairs[start:end])
        encoded = tokenizer(
            list(texts[start:end]), block, truncation=True, max_length=max_length, return_overflowing_tokens=windows
        )
        for encoding in encoded.encodings:  # a text's further windows stand among them, after its first
            laid.add(encoding, row)
            row += 1
        if windows:
            origins.append(start + np.asarray(encoded["overflow_to_sample_mapping"], np.int64))
    laid_out = laid.encoded(labels, several=False)
    return replace(laid_out, origins=np.concatenate(origins)) if windows else laid_out


def tokenize_rows(
    tokenizer: Any,
    texts: Sequence[str],
    cut: Cut,
    *,
    pairs: Sequence[str] | None = None,
    tokens: Sequence[Sequence[str]] | None = None,
    seek: bool = False,
) -> Encoded:
    """Tokenise the rows of a task; a row that is longer than an input may be is cut as ``cut`` says.

    Args:
        tokenizer: A fast transformers tokenizer.
        texts: Text of each row.
        cut: How long an input may be, and what becomes of a longer row.
        pairs: Second text of each row, if rows are pairs.
        tokens: Words of each row, if somebody named them: its text is these with a space between.
        seek: Keep where tokens stand in the last text of a row; of a pair, only that text is cut.

    Returns:
        The rows, without labels.
    """
    laid = _Laid(seek=seek)
    for row, start, end in _blocks(len(texts)):
        several = [list(column[start:end]) for column in (texts, pairs) if column is not None]
        for encodings in _inputs(tokenizer, several, cut, seek=seek):
            words = None if tokens is None else _words_of(tokens[row])
            for encoding, places in encodings:
                laid.add(encoding, row, places, words)
            row += 1
    return laid.encoded(None, several=cut.long_text == "windows" or seek)


def _inputs(tokenizer: Any, columns: list[list[str]], cut: Cut, *, seek: bool) -> Iterator[list[tuple[Any, Any]]]:
    """The inputs of each row of a block: what the encoder reads, and where its tokens stand in the row's texts."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    special = backend.num_special_tokens_to_add(len(columns) == 2)
    room = cut.max_length - special
    encoded = [backend.encode_batch(column, add_special_tokens=False) for column in columns]
    for i, parts in enumerate(zip(*encoded, strict=True)):
        fits = sum(map(len, parts)) <= room
        inputs = [parts] if fits else list(_cut(backend, columns, i, list(parts), room, cut, seek=seek))
        # where tokens stand is asked before: processing trims spaces off for a second time
        yield [(backend.post_process(*each), [place for part in each for place in part.offsets]) for each in inputs]


def _cut(
    backend: Any, columns: list[list[str]], row: int, parts: list[Any], room: int, cut: Cut, *, seek: bool
) -> Iterator[list[Any]]:
    """The inputs of a row that is too long for one: of a pair, the longer text gives way, or the one that is sought."""
    wide = len(parts) - 1 if seek else int(np.argmax([len(part) for part in parts]))
    long = parts[wide]
    if len(parts) == 2:
        other = parts[1 - wide]
        if len(other) > room // 2:
            other.truncate(room // 2)
        room -= len(other)
    if len(long) <= room:
        pieces = [long]
    elif cut.long_text == "windows" or seek:
        long.truncate(room, stride=cut.shared(room))
        pieces = [long, *long.overflowing]
    elif cut.long_text == "head+tail":
        tail = backend.encode(columns[wide][row], add_special_tokens=False)
        long.truncate(max(1, room // 4))
        tail.truncate(room - len(long), direction="left")
        pieces = [type(long).merge([long, tail], growing_offsets=False)]
    else:
        long.truncate(room)
        pieces = [long]
    for piece in pieces:
        yield [piece if i == wide else part for i, part in enumerate(parts)]


class _Laid:
    """Encodings, laid end to end."""

    def __init__(self, *, seek: bool = False) -> None:
        self.seek = seek
        self.ids: list[npt.NDArray[np.int32]] = [np.zeros(0, np.int32)]
        self.words: list[npt.NDArray[np.int32]] = [np.zeros(0, np.int32)]
        self.types: list[npt.NDArray[np.uint8]] = [np.zeros(0, np.uint8)]
        self.chars: list[npt.NDArray[np.int32]] = [np.zeros((0, 2), np.int32)]
        self.rows: list[int] = []

    def add(self, encoding: Any, row: int, places: Any = None, named: _Sought | None = None) -> None:
        """One more text, of a row; with where its tokens stand, and its words if somebody named them."""
        self.ids.append(np.asarray(encoding.ids, np.int32))
        self.types.append(np.asarray(encoding.type_ids, np.uint8))
        self.rows.append(row)
        chars = np.full((len(encoding.ids), 2), -1, np.int32)
        if named is not None or self.seek:
            chars[np.asarray(encoding.special_tokens_mask) == 0] = np.asarray(places, np.int32).reshape(-1, 2)
        self.words.append(_words(encoding) if named is None else named.of(chars))
        if self.seek:
            chars[~_second(encoding)] = -1
            self.chars.append(chars)

    def encoded(self, labels: npt.NDArray[Any] | None, *, several: bool) -> Encoded:
        """All of it; ``several`` if a row may be more than one text."""
        lengths = np.asarray([len(ids) for ids in self.ids[1:]], np.int64)
        firsts = None
        if several:
            rows = np.asarray(self.rows, np.int64)
            firsts = np.searchsorted(rows, np.arange(rows.max(initial=-1) + 2)).astype(np.int64)
        return Encoded(
            np.concatenate(self.ids),
            np.concatenate(self.words),
            np.concatenate(self.types),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            labels,
            firsts,
            np.concatenate(self.chars) if self.seek else None,
        )


def _blocks(rows: int) -> Iterator[tuple[int, int, int]]:
    for start in range(0, rows, _BLOCK):
        yield start, start, min(start + _BLOCK, rows)


def _words_of(tokens: Sequence[str]) -> _Sought:
    lengths = np.asarray([len(token) for token in tokens], np.int64)
    starts = np.cumsum(lengths + 1) - lengths - 1
    return _Sought(starts, starts + lengths)


def _words(encoding: Any) -> npt.NDArray[np.int32]:
    """Word of each token, counted through both texts of a pair; -1 for special tokens."""
    words = np.asarray([-1 if word is None else word for word in encoding.word_ids], np.int32)
    second = _second(encoding)
    if second.any():
        words[second] += words[~second].max(initial=-1) + 1
    return words


def _second(encoding: Any) -> npt.NDArray[np.bool_]:
    """Which tokens are of the second text of a pair. Those of the first are not always told from special ones."""
    return np.asarray([place == 1 for place in encoding.sequence_ids], bool)
