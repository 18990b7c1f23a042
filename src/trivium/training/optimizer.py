"""AdamW with the usual exceptions, and the rate of each update."""

import re

import torch
from torch import nn

from trivium.core import Stage
from trivium.encoders.encoder import Encoder

_LAYER = re.compile(r"\.(?:layers?|h|blocks?)\.(\d+)\.")


def make_optimizer(encoder: Encoder, stage: Stage) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019); biases, norms and other vectors do not decay.

    Each group keeps its peak rate under ``peak``; the loop multiplies it by ``rate_at``.
    """
    groups: dict[tuple[bool, float], list[nn.Parameter]] = {}
    depth = int(getattr(encoder.backbone.config, "num_hidden_layers", 0))
    for name, parameter in encoder.named_parameters():
        layer = layer_of(name, depth)
        frozen = is_frozen(name, encoder, stage.freeze)
        parameter.requires_grad_(not frozen)
        if not frozen:
            peak = stage.lr * stage.layer_decay ** (depth - layer)
            groups.setdefault((parameter.dim() > 1, peak), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": members, "lr": 0.0, "peak": peak, "weight_decay": stage.weight_decay if matrix else 0.0}
            for (matrix, peak), members in groups.items()
        ],
        betas=(0.9, 0.98),
        eps=1e-6,
        fused=True,
    )


def is_frozen(name: str, encoder: Encoder, freeze: int) -> bool:
    """Whether a weight of an encoder stays as it is where the lowest so many layers, and the embeddings, do."""
    depth = int(getattr(encoder.backbone.config, "num_hidden_layers", 0))
    return freeze > 0 and layer_of(name, depth) < min(freeze, depth)


def layer_of(name: str, depth: int) -> int:
    """How far up a weight lies: -1 for embeddings, 0 to ``depth`` - 1 for the layers, ``depth`` for all above them.

    >>> [layer_of(n, 2) for n in ("backbone.embeddings.w", "backbone.layers.1.w", "heads.task.classifier.w")]
    [-1, 1, 2]
    """
    if not name.startswith("backbone."):
        return depth
    found = _LAYER.search(name)
    if found:
        return int(found.group(1))
    return -1 if "embed" in name else depth


def rate_at(stage: Stage, update: int, updates: int) -> float:
    """Share of the peak rate: up from 0 in the warm-up, then down to 0 at the last update, in straight lines."""
    warm = stage.warmup * updates
    if update < warm:
        return (update + 1) / (warm + 1)
    return (updates - update) / max(1.0, updates - warm)
