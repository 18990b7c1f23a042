"""What an arm's encoders will read, laid out once: the sealed task, the tokenizer and the tokenised documents."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from trivium.core import JSON, Ints, Stage, Stream, Task
from trivium.encoders.encoder import load_tokenizer
from trivium.encoders.streams import padded_tokens
from trivium.kinds import Encoded
from trivium.training import encode_documents, make_tokenizer
from trivium.training.recipes import Spec

_ARRAYS = ("ids", "words", "types", "offsets")
_ORIGINS = "documents"  # which documents windows were cut from; older artifacts are without


def window_lengths(stages: Iterable[Stage], stream: Stream) -> list[int]:
    """The lengths of the windows in which stages read a stream."""
    return sorted({stage.max_length for stage in stages if stream in stage.mix})


def save_reading(
    spec: Spec,
    task: Task,
    documents: list[str],
    stages: Sequence[Stage],
    folder: Path,
    auxiliary: Sequence[Task] = (),
    ids: Ints | None = None,
) -> None:
    """Make the tokenizer and tokenise the documents, once for every window length that a stage asks for.

    The task's own texts are tokenised too, but only counted: a stage has them in the task. ``ids`` say what the
    documents are called in the corpus, ``[documents]``.
    """
    tokenizer = make_tokenizer(spec, task, documents, auxiliary)
    tokenizer.save_pretrained(folder / "tokenizer")
    sizes: dict[Stream, dict[int, int]] = {"documents": {}, "texts": {}}
    for length in window_lengths(stages, "documents") if documents else []:
        encoded = encode_documents(tokenizer, documents, length, ids)
        sizes["documents"][length] = padded_tokens(encoded)
        arrays = {name: getattr(encoded, name) for name in _ARRAYS} | {_ORIGINS: encoded.origins}
        for name, array in arrays.items():
            np.save(folder / f"{name}-{length}.npy", array, allow_pickle=False)
    for length in window_lengths(stages, "texts"):
        sizes["texts"][length] = padded_tokens(encode_documents(tokenizer, task.passages()[0], length))
    about = {"encoder": asdict(spec), "vocabulary": len(tokenizer), "tokens": sizes}
    (folder / "reading.json").write_text(json.dumps(about))


def load_documents(folder: Path, length: int) -> Encoded | None:
    """The tokenised documents, memory-mapped; none where the arm reads none."""
    if not (folder / f"ids-{length}.npy").exists():
        return None
    encoded = Encoded(*(_array(folder / f"{name}-{length}.npy") for name in _ARRAYS))
    origins = folder / f"{_ORIGINS}-{length}.npy"
    return replace(encoded, origins=_array(origins)) if origins.exists() else encoded


def _array(file: Path) -> Any:
    return np.load(file, mmap_mode="r", allow_pickle=False)


def load_reading_tokenizer(folder: Path) -> JSON:
    """The tokenizer."""
    return load_tokenizer(str(folder / "tokenizer"))


def reading_tokens(folder: Path) -> dict[Stream, int]:
    """Tokens of the documents and of the texts, padding included, at the window length that makes the most of them."""
    sizes = json.loads((folder / "reading.json").read_text())["tokens"]
    return {stream: max(sizes[stream].values(), default=0) for stream in ("documents", "texts")}
