"""A trained model as ONNX, for whoever serves without torch (the extra ``onnx``).

The file is checked against torch before anybody sees it: texts of several lengths, in batches of several sizes, must
get the same logits. How rows become texts and logits answers is not in the file; ``onnx.json`` beside it says it.
"""

import json
import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

import trivium
from trivium.core import JSON
from trivium.encoders.encoder import inputs_of
from trivium.encoders.streams import collate
from trivium.errors import ArtifactError, ConfigError
from trivium.kinds import KINDS, Batch
from trivium.pretrained import reason
from trivium.store import atomic_folder
from trivium.training.predict import Predictor

ABOUT, MODEL, CARD = "onnx.json", "model.onnx", "README.md"
TOLERANCE = 1e-4
_NEEDED = ("onnx", "onnxruntime", "onnxscript")
_ONE_FILE = 2**30  # bytes of weights; protobuf holds no more than two of these, so larger ones lie beside
_BATCHES = ((0,), (1, 0), (2,), (3, 1, 0), (3, 2, 1, 0, 3))  # rows that are asked about together, by length
_ANSWER = {
    "classify": "softmax of the logits; the likeliest label",
    "multilabel": "sigmoid of each logit; every label above 0.5",
    "regress": "the logit is the score",
    "rank": "each text is the question with one choice; softmax of the logits of a question's choices",
    "tag": "softmax of the logits at the first piece of each word; the likeliest tag",
    "span": "the stretch of the context with the highest sum of its first start logit and its last end logit",
}


@dataclass(frozen=True)
class Exported:
    """A model as ONNX.

    Attributes:
        folder: Holds ``model.onnx``, ``onnx.json``, config and tokenizer, and the card if the model has one.
        difference: The largest difference from torch that was measured; see ``export_onnx``.
        about: What ``onnx.json`` says.
    """

    folder: Path
    difference: float
    about: JSON


def export_onnx(model: Path | str, folder: Path | str, *, tolerance: float = TOLERANCE) -> Exported:
    """Write a model as ONNX, with batch and length free, and check it against torch.

    Args:
        model: A model folder, as ``predict`` takes it.
        folder: Where to write it: a new folder, an empty one, or that of an earlier export.
        tolerance: How far a logit may be from torch's: ``|onnx - torch| / max(1, |torch|)``, over all logits of real
            tokens.

    Raises:
        ConfigError: the extra is not installed, or the folder holds something else.
        ArtifactError: there is no model, torch cannot export it, or a logit is too far away; nothing is written then.
    """
    _demand_extra()
    place = Path(folder)
    _demand_room(place)
    predictor = Predictor(model)
    predictor.model.cpu()
    predictor.device = torch.device("cpu")
    batches = list(_batches(predictor))
    with atomic_folder(place) as scratch:
        opset = _write(predictor, batches[1], scratch / MODEL)
        session = _session(scratch / MODEL)
        difference = max(_difference(predictor.model, session, batch) for batch in batches)
        if not difference <= tolerance:
            raise ArtifactError(
                f"{model}: expected logits of the ONNX model within {tolerance:g} of torch's, found a difference of "
                f"{difference:.3g}. Nothing was written. Use the model with torch, or accept that: --tolerance."
            )
        about = _about(predictor, session, opset, batches, tolerance, difference)
        (scratch / ABOUT).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        predictor.tokenizer.save_pretrained(scratch)
        predictor.config.save_pretrained(scratch)
        if (card := Path(model) / CARD).exists():
            shutil.copy(card, scratch / CARD)
    return Exported(place, difference, about)


def _demand_extra() -> None:
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f"ONNX needs {', '.join(missing)}, not installed here: pip install 'trivium[onnx]'.")


def _demand_room(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and ((folder / ABOUT).exists() or not any(folder.iterdir()))):
        raise ConfigError(
            f"{folder}: expected a new folder, an empty one or that of an earlier export, found other files in it. "
            "Name another one with --output."
        )


class _Logits(nn.Module):
    """A model that returns its logits by themselves, one text of a multiple choice at a time."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        name = type(model).__name__
        self.choice = name.endswith("ForMultipleChoice")
        self.names = ("start_logits", "end_logits") if name.endswith("ForQuestionAnswering") else ("logits",)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        inputs = {name: value for name, value in given.items() if value is not None}
        if self.choice:
            inputs = {name: value[:, None] for name, value in inputs.items()}
        output = self.model(**inputs)
        return tuple(output[name] for name in self.names)


def _write(predictor: Predictor, batch: Batch, file: Path) -> int:
    """Write the ONNX file; returns the version of ONNX's operators that it needs."""
    wrapper = _Logits(predictor.model).eval()
    inputs = inputs_of(batch)
    weights = sum(p.numel() * p.element_size() for p in predictor.model.parameters())
    try:
        with _quiet(), torch.no_grad():
            program: Any = torch.onnx.export(
                wrapper,
                kwargs=inputs,
                dynamo=True,
                dynamic_shapes={name: {0: "batch", 1: "length"} for name in inputs},
                input_names=list(inputs),
                output_names=list(wrapper.names),
                verbose=False,
            )
            program.save(file, external_data=weights > _ONE_FILE)
    except (RuntimeError, torch.onnx.OnnxExporterError) as error:
        name = type(predictor.model).__name__
        raise ArtifactError(
            f"expected a model that torch {torch.__version__} can write as ONNX, found a {name}: {reason(_root(error))}"
        ) from error
    return int(program.model.opset_imports[""])


def _root(error: BaseException) -> Exception:
    """What an error came from in the end: torch wraps it in advice on how to change torch."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error if isinstance(error, Exception) else Exception(error)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch says about its own inside, and about packages that are not needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _session(file: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


def _difference(model: Any, session: Any, batch: Batch) -> float:
    """The largest difference of a logit from torch's; those of padding are nobody's business."""
    inputs = inputs_of(batch)
    with torch.inference_mode():
        wanted = _Logits(model)(**inputs)
    found = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    worst = 0.0
    for one, other in zip(found, wanted, strict=True):
        here, there = torch.from_numpy(one), other.float()
        if here.shape != there.shape:
            return float("inf")
        if there.shape[:2] == batch.ids.shape:
            here, there = here[batch.attention], there[batch.attention]
        worst = max(worst, float(((here - there).abs() / there.abs().clamp(min=1)).max()))
    return worst if np.isfinite(worst) else float("inf")


def _batches(predictor: Predictor) -> Iterator[Batch]:
    """Rows of the model's kind, from one word to more than an input holds, in batches of several sizes."""
    known = predictor.tokenizer.get_vocab()
    words = [word for word in sorted(known, key=known.__getitem__) if word.isalpha()] or ["a"]
    longest = predictor.cut.max_length
    rows = [_row(predictor.kind, words, many) for many in (1, 7, max(1, longest // 2), 2 * longest)]
    table = pa.table({name: [row[name] for row in rows] for name in rows[0]})
    encoded = KINDS[predictor.kind].encode(predictor.tokenizer, table, predictor.labels, predictor.cut)
    for chosen in _BATCHES:
        yield collate(encoded, np.asarray(chosen), predictor.tokenizer.pad_token_id, types=predictor.types)


def _row(kind: str, words: Sequence[str], many: int) -> dict[str, Any]:
    said = [words[7 * i % len(words)] for i in range(many)]
    if kind == "tag":
        return {"tokens": said}
    first, second = " ".join(said[: 1 + many // 3]), " ".join(said[many // 3 :])
    return {"text": first, "choices": [second, said[0]]} if kind == "rank" else {"text": first, "text_pair": second}


def _about(
    predictor: Predictor, session: Any, opset: int, batches: Sequence[Batch], tolerance: float, difference: float
) -> JSON:
    """What ``onnx.json`` says."""
    cut = predictor.cut
    return {
        "kind": predictor.kind,
        "inputs": _tensors(session.get_inputs()),
        "outputs": _tensors(session.get_outputs()),
        "labels": predictor.labels,
        "answer": _ANSWER[predictor.kind],
        "max_length": cut.max_length,
        "long_text": "windows" if predictor.kind == "span" else cut.long_text,
        "check": {
            "measure": "|onnx - torch| / max(1, |torch|), the largest of all logits of real tokens",
            "tolerance": tolerance,
            "largest_difference": difference,
            "batches": [list(batch.ids.shape) for batch in batches],
        },
        "made_with": {
            "trivium": trivium.__version__,
            "torch": str(torch.__version__),
            "onnxruntime": metadata.version("onnxruntime"),
            "opset": opset,
        },
    }


def _tensors(found: Sequence[Any]) -> Mapping[str, JSON]:
    return {one.name: {"type": one.type.removeprefix("tensor(").rstrip(")"), "shape": one.shape} for one in found}
