"""What is installed, what there is to compute on."""

import platform
from importlib import metadata

import trivium
from trivium.pretrained import PACKAGED
from trivium.study.manifest import PACKAGES, hardware
from trivium.training.software import software

OPTIONAL = ("ray",)  # extras of the same names


def examine() -> dict[str, dict[str, str]]:
    """Versions, devices and optional parts, ready to print."""
    return {
        "versions": {
            "trivium": trivium.__version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
        "optional": {
            **{name: _optional(name, f"pip install 'trivium[{name}]'") for name in OPTIONAL},
            **{name: _optional(model.distribution, model.install) for name, model in PACKAGED.items()},
        },
        "machine": {name: str(value) for name, value in hardware().items()} | {"precision": software()["precision"]},
    }


def _optional(name: str, install: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"not installed; {install}"
