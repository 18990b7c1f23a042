"""What is said of a head that matters: sizes of gradients, exact for every row of a batch, by one backward pass.

Where heads are stands in ``heads``; who measures, and keeps it, in ``importance``.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from typing import Literal

import torch
from torch import Tensor

from trivium.auxiliary.heads import AttentionHeads, Rows, Use
from trivium.kinds import Batch

Estimate = Callable[[AttentionHeads, Batch, Callable[[], Tensor]], Tensor]
_FLOATS = 2**24  # of weight gradients that are held at once


def gate(heads: AttentionHeads, batch: Batch, loss: Callable[[], Tensor]) -> Tensor:
    """|∂loss/∂ξ| of each row, float32 ``[rows, layers, heads]``.

    A gate ξ = 1 changes nothing, and what a head says times the gradient of that is the gate's gradient: so none is put
    in, and the product is summed in float32.
    """
    with heads.watch("out") as uses:
        total = loss()
    slopes = torch.autograd.grad(total, [use.read for use in uses])
    texts = total.new_zeros(len(batch.ids), *heads.shape)
    for use, slope in zip(uses, slopes, strict=True):
        products = use.read.detach().float() * slope.float()
        texts[:, use.layer] = products.sum(1).view(len(products), heads.count, -1).sum(-1)
    if batch.owners is None:
        return texts.abs()
    return texts.new_zeros(batch.rows, *heads.shape).index_add(0, batch.owners, texts).abs()


def kv_weight(heads: AttentionHeads, batch: Batch, loss: Callable[[], Tensor]) -> Tensor:
    """Mean |∂loss/∂w| of each head's key weights, plus that of its value weights, float32 ``[rows, layers, heads]``."""
    return _weights(heads, batch, loss, along=2)


def kv_weight_legacy(heads: AttentionHeads, batch: Batch, loss: Callable[[], Tensor]) -> Tensor:
    """The same of slices of all heads' inputs, as GradTS's code has it."""
    return _weights(heads, batch, loss, along=1)


def _weights(heads: AttentionHeads, batch: Batch, loss: Callable[[], Tensor], along: Literal[1, 2]) -> Tensor:
    """Mean absolute gradients of keys and values, ``[rows, layers, heads]``.

    A weight's gradient is the sum over tokens of what the layer read times the gradient of what it made of it.

    Args:
        heads: The heads.
        batch: The rows.
        loss: Runs the model.
        along: Of ``[rows, out, in]``, what is averaged first; the other is cut into heads.
    """
    with heads.watch("key", "value") as uses:
        total = loss()
    slopes = torch.autograd.grad(total, [use.made for use in uses], allow_unused=True, materialize_grads=True)
    found = total.new_zeros(batch.rows, *heads.shape)
    for place, layer in enumerate(heads.layers):
        for part in (layer.key, layer.value):
            pairs = [_pair(*pair, part) for pair in zip(uses, slopes, strict=True) if _is(pair[0], place, part)]
            most = max(1, _FLOATS // (part.of.numel() * part.linear.in_features))
            for rows, texts in _runs(batch, most):
                whole = sum(_products(*pair, rows, texts) for pair in pairs)
                assert isinstance(whole, Tensor)
                means = torch.linalg.vector_norm(whole, 1, along, dtype=torch.float32) / whole.shape[along]
                found[rows, place] += means.view(len(means), heads.count, -1).mean(-1)
    return found


def _is(use: Use, place: int, part: Rows) -> bool:
    return use.layer == place and use.linear is part.linear


def _pair(use: Use, slope: Tensor, part: Rows) -> tuple[Tensor, Tensor]:
    """What a part read, ``[texts, length, in]``, and the gradient of what it made, head by head."""
    alone = part.of.numel() == slope.shape[-1]  # rows that nobody else has are in order
    return use.read.detach().to(slope.dtype), slope if alone else slope.index_select(-1, part.of.flatten())


def _products(read: Tensor, slope: Tensor, rows: slice, texts: slice) -> Tensor:
    """Gradients of the weights, ``[rows, out, in]``; those of a row's texts are summed."""
    many = rows.stop - rows.start
    long = [tensor[texts].reshape(many, -1, tensor.shape[-1]) for tensor in (slope, read)]
    return long[0].transpose(1, 2) @ long[1]


def _runs(batch: Batch, most: int) -> Iterator[tuple[slice, slice]]:
    """All rows and their texts, in runs of up to ``most`` rows that have as many texts each."""
    owners = range(len(batch.ids)) if batch.owners is None else batch.owners.tolist()
    widths = [len(list(texts)) for _, texts in groupby(owners)]
    row = text = 0
    for width, same in groupby(widths):
        left = len(list(same))
        while left > 0:
            many = min(left, most)
            yield slice(row, row + many), slice(text, text + many * width)
            row, text, left = row + many, text + many * width, left - many


ESTIMATORS: Mapping[str, Estimate] = {
    "gate": gate,
    "kv_weight": kv_weight,
    "kv_weight_legacy": kv_weight_legacy,
}
