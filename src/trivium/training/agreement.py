"""How far the two losses of a joint stage agree about the backbone: the cosine of their gradients, layer by layer.

The loop asks now and then, by batches that serve nothing else, and no weight depends on the answer. What becomes of an
auxiliary task's gradient that conflicts is another question; see ``combine``.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from trivium.core import JSON
from trivium.encoders.encoder import Encoder
from trivium.training.optimizer import layer_of

Gradients = Sequence[Tensor | None]


def backbone_layers(encoder: Encoder) -> dict[str, list[nn.Parameter]]:
    """The weights that both losses learn, each once: ``embeddings``, the layers from ``1``, and ``top`` above them.

    Frozen weights and heads are left out; embeddings that the gap-filling head shares are among them.
    """
    depth = int(getattr(encoder.backbone.config, "num_hidden_layers", 0))
    names = {-1: "embeddings", depth: "top"}
    found: dict[int, list[nn.Parameter]] = {}
    for name, weight in encoder.named_parameters():
        if name.startswith("backbone.") and weight.requires_grad:
            found.setdefault(layer_of(name, depth), []).append(weight)
    return {names.get(layer, str(layer + 1)): found[layer] for layer in sorted(found)}


def cosines(mlm: Mapping[str, Gradients], task: Mapping[str, Gradients]) -> dict[str, JSON]:
    """The cosine of two gradients, of each layer and of all together.

    Args:
        mlm: Of each layer, the gradients of the masked-language-model loss, weight by weight; none is 0.
        task: The same of the task's loss.

    Returns:
        ``layers``, of each layer that both losses move, and ``cosine``, of all those together; none if there is none.

    >>> one, other = torch.tensor([1.0, 0.0]), torch.tensor([1.0, 1.0])
    >>> cosines({"1": [one], "top": [one]}, {"1": [other], "top": [None]})
    {'cosine': 0.7071, 'layers': {'1': 0.7071}}
    """
    products = {layer: [_dot(mlm[layer], task[layer]), _square(mlm[layer]), _square(task[layer])] for layer in mlm}
    moved = {layer: three for layer, three in products.items() if three[1] > 0 and three[2] > 0}
    whole = [sum(column) for column in zip(*moved.values(), strict=True)]
    return {
        "cosine": _cosine(*whole) if moved else None,
        "layers": {layer: _cosine(*three) for layer, three in moved.items()},
    }


def _cosine(both: float, one: float, other: float) -> float:
    return round(both / math.sqrt(one * other), 4)


def _square(gradients: Gradients) -> float:
    return _dot(gradients, gradients)


def _dot(one: Gradients, other: Gradients) -> float:
    pairs = zip(one, other, strict=True)
    return sum(float((a * b).sum(dtype=torch.float64)) for a, b in pairs if a is not None and b is not None)
