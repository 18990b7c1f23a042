"""What is installed, what there is to compute on."""

import platform
from importlib import metadata

import trivium
from trivium.study.manifest import PACKAGES, hardware, software


def examine() -> dict[str, dict[str, str]]:
    """Versions, devices and optional parts, ready to print."""
    return {
        "versions": {
            "trivium": trivium.__version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
        "machine": {name: str(value) for name, value in hardware().items()} | {"precision": software()["precision"]},
    }
