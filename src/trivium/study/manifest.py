"""Where a result came from: code, packages and machine."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import trivium
from trivium.core import JSON
from trivium.engine import cores

PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "scipy", "scikit-learn", "pyarrow", "numba")


def provenance() -> dict[str, JSON]:
    """What a manifest begins with."""
    return {
        "trivium": trivium.__version__,
        "revision": revision(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "hardware": hardware(),
        "started": now(),
    }


def now() -> str:
    """The time, to the second, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def revision() -> str | None:
    """The git revision of trivium's own source, where it is run from a checkout and git is installed."""
    here = Path(trivium.__file__).parents[2]
    if not (here / ".git").exists():  # installed: a repository around it is somebody else's
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--dirty"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # nosec B603
    except OSError:  # no git
        return None
    return asked.stdout.strip() or None


def hardware() -> dict[str, JSON]:
    """Processor, cores, memory and GPU."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": _cpu(), "cores": cores(), "memory_gb": round(memory, 1), "gpu": gpu}


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
