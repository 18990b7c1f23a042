"""What selectors share that compare gradients: those of single rows, few numbers in place of many, and an interval.

A row's gradient for a linear layer is a sum over its tokens of what comes back times what went in, so one backward pass
gives those of a whole batch. Which selectors use them stands in ``projected`` and ``gradcos``.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trivium import seeds
from trivium.auxiliary.heads import AttentionHeads, Part
from trivium.auxiliary.protocol import Rating
from trivium.core import Floats, Task
from trivium.encoders import Encoder
from trivium.kinds import Batch, kind_of
from trivium.masking.asking import states
from trivium.nmg.settled import interval

_BLOCK = 2**24  # gradients laid out at once: 64 MB


@dataclass(frozen=True)
class Projection:
    """A fixed random map to few dimensions that keeps inner products in the mean.

    Every coordinate is added, with a random sign, to one of the dimensions, drawn at random. The matrix has one ±1 in
    each column; it is drawn from its seed wherever it is needed, piece by piece, and never held. For vectors x and y,
    the inner product of their images is ⟨x, y⟩ in the mean, and its variance is
    (|x|²|y|² + ⟨x, y⟩² − 2 Σ x_i² y_i²) / dimensions: both as with a full matrix of ±1 / √dimensions, which takes
    ``dimensions`` times as long.

    Attributes:
        dimensions: How many.
        seed: Of the matrix.

    Source: count sketch (Charikar et al. 2002), as feature hashing (Weinberger et al. 2009, section 2), in place of
    the full matrix of LESS (Xia et al. 2024, section 4.1).

    >>> few = Projection(64, seed=0).of("weights", [torch.ones(2, 1000)])
    >>> few.shape, bool((few[0] == few[1]).all())
    (torch.Size([2, 64]), True)
    """

    dimensions: int
    seed: int

    def of(self, name: str, blocks: Iterable[Tensor]) -> Tensor:
        """Project vectors.

        Args:
            name: Of the space they are in, such as a matrix of weights: each has a map of its own.
            blocks: Their coordinates in order, in pieces ``[vectors, some]`` of any size.

        Returns:
            ``[vectors, dimensions]``.
        """
        rng = seeds.numpy_rng(self.seed, "projection", name)
        sums: Tensor | None = None  # a place for what is added to each dimension, and one for what is taken off
        for block in blocks:
            if sums is None:
                sums = block.new_zeros(len(block), 2 * self.dimensions)
            drawn = torch.from_numpy(rng.integers(2 * self.dimensions, size=block.shape[1]))
            sums.index_add_(1, drawn.to(block.device), block)
        assert sums is not None
        return sums[:, : self.dimensions] - sums[:, self.dimensions :]


def key_value_layers(encoder: Encoder) -> dict[str, nn.Linear]:
    """The linear layers of the backbone that make keys and values, by name.

    Where an architecture makes queries in the same layer (ModernBERT, DeBERTa), they are in it. Keys that are made of
    relative positions too (DeBERTa-v3) are left out: what their layer does there belongs to no text.

    Raises:
        ConfigError: nobody has said where this architecture keeps them.
    """
    heads = AttentionHeads.of(encoder.backbone)
    wanted = {layer.linear(part) for layer in heads.layers for part in _parts(heads)}
    return {name: layer for name, layer in encoder.backbone.named_modules() if layer in wanted}


def _parts(heads: AttentionHeads) -> tuple[Part, ...]:
    return ("key", "value") if heads.apart else ("value",)


def row_gradients(
    encoder: Encoder, task: Task, batch: Batch, block: int = _BLOCK
) -> Iterator[tuple[str, Iterator[Tensor]]]:
    """The gradient of each row's loss with respect to the weights of ``key_value_layers``, from one backward pass.

    Args:
        encoder: Has a head for the task; the caller puts it into evaluation mode.
        task: Whose rows these are.
        batch: The rows, labelled, on the encoder's device.
        block: Most numbers that are laid out at once.

    Yields:
        The name of each layer, and its weights' gradients in pieces ``[rows, some]``, in the order of the weights.
    """
    heads = AttentionHeads.of(encoder.backbone)
    with heads.watch(*_parts(heads)) as uses, torch.enable_grad():
        logits = encoder.answer(task.name, states(encoder, batch), batch)
        loss = kind_of(task).loss(logits, batch, None).sum()
        slopes = torch.autograd.grad(loss, [use.made for use in uses])
    for name, layer in key_value_layers(encoder).items():  # ALBERT's one layer runs several times
        calls = [(use.read.detach(), slope) for use, slope in zip(uses, slopes, strict=True) if use.linear is layer]
        yield name, _pieces(calls, batch, max(1, block // (len(batch.ids) * layer.in_features)))


def _pieces(calls: Sequence[tuple[Tensor, Tensor]], batch: Batch, step: int) -> Iterator[Tensor]:
    """Gradients of ``step`` lines of a weight at a time, ``[rows, step · in]``: those of a row's texts added up."""
    for start in range(0, calls[0][1].shape[-1], step):
        parts = [slope[..., start : start + step].transpose(1, 2) @ given for given, slope in calls]
        yield added_up(sum(parts[1:], parts[0]).flatten(1), batch)


def added_up(texts: Tensor, batch: Batch) -> Tensor:
    """Vectors of texts ``[texts, width]``, those of each row added up, ``[rows, width]``."""
    if batch.owners is None:
        return texts
    return texts.new_zeros(batch.rows, texts.shape[1]).index_add(0, batch.owners, texts)


def rated(name: str, cosines: Sequence[float] | Floats) -> Rating:
    """The mean of some cosines as a rating, with its t interval within [-1, 1]; of a single one, none is known.

    >>> one = rated("sst", [0.2, 0.3, 0.4])
    >>> round(one.score, 3), round(one.low, 3), round(one.high, 3)
    (0.3, 0.052, 0.548)
    """
    if len(cosines) < 2:
        return Rating(name, float(cosines[0]))
    mean, low, high = interval(list(cosines))
    return Rating(name, mean, max(-1.0, low), min(1.0, high))
