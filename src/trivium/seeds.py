"""One seed, named children: the only place that seeds.

Two parts of a run that draw random numbers must not share a stream, or a change in one would change the other. So
nobody hands a seed on: they ask for a child by name, and a name always gives the same stream.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import xxhash

if TYPE_CHECKING:
    import torch


def child(seed: int, *names: str | int) -> int:
    """A 63-bit seed that is a pure function of ``seed`` and the names.

    >>> child(0, "order", 3) == child(0, "order", 3)
    True
    >>> child(0, "order", 3) == child(0, "order", 4)
    False
    """
    path = "\x1f".join([str(seed), *map(str, names)])
    return xxhash.xxh3_64_intdigest(path.encode()) >> 1


def numpy_rng(seed: int, *names: str | int) -> np.random.Generator:
    """A numpy generator for the named child.

    >>> int(numpy_rng(0, "example").integers(10)) == int(numpy_rng(0, "example").integers(10))
    True
    """
    return np.random.default_rng(child(seed, *names))


def torch_rng(seed: int, *names: str | int) -> "torch.Generator":
    """A torch generator on the CPU for the named child."""
    import torch

    return torch.Generator().manual_seed(child(seed, *names))


@contextmanager
def torch_scope(seed: int, *names: str | int) -> Iterator[None]:
    """Run a block with torch's global generators set to the named child, and put them back after it.

    For code that is not ours and draws from the global generator: a model's initial weights, dropout.
    """
    import torch

    here = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=here):
        reseed_torch(seed, *names)
        yield


def reseed_torch(seed: int, *names: str | int) -> None:
    """Set torch's global generators to the named child; call it inside ``torch_scope``.

    The training loop does so before every update: dropout is then a function of seed and update, and a resumed run
    needs no saved generator.
    """
    import torch

    value = child(seed, *names)
    torch.default_generator.manual_seed(value)  # ``torch.manual_seed`` takes a millisecond where there is no GPU
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(value)
