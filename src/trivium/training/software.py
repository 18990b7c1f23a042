"""What trained weights depend on that is neither data nor a setting."""

from importlib import metadata

import torch

import trivium
from trivium.core import JSON
from trivium.encoders.encoder import torch_device
from trivium.encoders.precision import precision


def software() -> dict[str, JSON]:
    """What trained weights depend on beside data and settings: versions, and what they are computed on."""
    device = torch.device(torch_device())
    return {
        "trivium": trivium.__version__,
        "packages": {name: metadata.version(name) for name in ("torch", "transformers", "tokenizers")},
        "device": device.type,
        "precision": precision(device),
    }
