"""How exactly a training step is computed: in bfloat16 where a device does that itself, else in float32."""

import os
from typing import Literal

import torch

from trivium.errors import ConfigError

Precision = Literal["float32", "bfloat16"]

_ASKED = "TRIVIUM_PRECISION"


def precision(device: torch.device) -> Precision:
    """What training on a device computes in; weights stay in float32.

    That is bfloat16 on GPUs and processors that compute in it; elsewhere it would be emulated, which is slower than
    float32. ``TRIVIUM_PRECISION`` in the environment, ``float32`` or ``bfloat16``, decides otherwise.

    Raises:
        ConfigError: the environment asks for something else.

    >>> import torch
    >>> precision(torch.device("cpu")) in ("float32", "bfloat16")
    True
    """
    match os.environ.get(_ASKED) or "auto":
        case "float32":
            return "float32"
        case "bfloat16":
            return "bfloat16"
        case "auto":
            pass
        case other:
            raise ConfigError(f"environment variable {_ASKED}: expected float32, bfloat16 or auto, found '{other}'.")
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "bfloat16" if native else "float32"
