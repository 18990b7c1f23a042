"""What is installed, what there is to compute on."""

import platform
from importlib import metadata

import trivium
from trivium.study.manifest import PACKAGES, hardware


def examine() -> dict[str, dict[str, str]]:
    """Versions, devices and optional parts, ready to print."""
    import torch

    from trivium.training.loop import autocast

    machine = hardware()
    precision = "bfloat16" if isinstance(autocast(torch.device(_device(machine["gpu"]))), torch.autocast) else "float32"
    return {
        "versions": {
            "trivium": trivium.__version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
        "machine": {**{name: str(value) for name, value in machine.items()}, "precision": precision},
    }


def _device(gpu: str | None) -> str:
    return "cuda" if gpu else "cpu"
