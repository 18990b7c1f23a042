"""Several processes that train one model, each on its part of every batch; started by ``torchrun``.

What one process computes is decided by ``parts``; here gradients are added up, and what only one process can know is
told to the others.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_BUCKET = 2**23  # numbers that are sent at once: 32 MB


@dataclass(frozen=True)
class World:
    """The processes that train together; one alone where nobody said otherwise.

    Attributes:
        rank: Which of them this is; 0 writes files.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    def add_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Add up the gradients of all processes, in every one of them; those that are none stay none."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        bucket: list[Tensor] = []
        for i, gradient in enumerate(gradients):
            bucket.append(gradient)
            if i + 1 == len(gradients) or sum(each.numel() for each in bucket) > _BUCKET:
                _add_up(bucket)
                bucket = []

    def add(self, values: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size > 1:
            values = values.clone()
            torch.distributed.all_reduce(values)
        return values

    def told(self, values: Tensor) -> Tensor:
        """What process 0 has."""
        if self.size > 1:
            torch.distributed.broadcast(values, 0)
        return values

    def agreed(self, wish: bool) -> bool:
        """What process 0 wishes: clocks differ, and whoever waits for the others must not wait alone."""
        if self.size == 1:
            return wish
        device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
        return bool(self.told(torch.tensor(wish, device=device)))

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            torch.distributed.barrier()


def world() -> World:
    """The processes that ``torchrun`` started this one with, joined on the first call; this one alone without it."""
    if not torch.distributed.is_available():
        return World()
    if not torch.distributed.is_initialized():
        if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "MASTER_ADDR" not in os.environ:
            return World()
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return World(torch.distributed.get_rank(), torch.distributed.get_world_size())


def _add_up(gradients: list[Tensor]) -> None:
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(flat)
    for gradient, summed in zip(gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True):
        gradient.copy_(summed.view_as(gradient))
