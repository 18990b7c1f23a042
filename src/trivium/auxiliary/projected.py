"""Rows whose gradients point where the task's do: LESS for encoders."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trivium.auxiliary.choosers import RowChooser
from trivium.auxiliary.projections import Projection, rated, row_gradients
from trivium.auxiliary.protocol import Bank, Rating
from trivium.core import Floats, Ints, Task
from trivium.encoders import Encoder
from trivium.errors import ConfigError
from trivium.masking.asking import at_rest, batches, encode


@dataclass(frozen=True)
class Projected(RowChooser):
    """A row scores by the cosine of its gradient with the task's; a candidate, by the mean over its rows.

    The gradients are those of a row's loss with respect to the weights that make keys and values, in all layers, at a
    checkpoint that learned the task and all candidates together: the very gradients whose absolute values GradTS
    compares head by head, here with their signs and directions. They are projected to few dimensions and scaled to
    length 1, so that long rows and large losses count no more than others. The task's is the mean of those of its rows.
    Scores lie in [-1, 1]: above 0, a small step down the row's loss lowers the task's, to first order.

    The interval is over seeds (t); with one seed, over the candidate's rows.

    Attributes:
        dimensions: Of the projection. It moves a cosine by about 1 / √dimensions.

    Source: LESS (Xia et al. 2024, sections 3 and 4), without the state of Adam and with one checkpoint.
    """

    dimensions: int = 8192

    def __post_init__(self) -> None:
        """Refuse a projection to nothing."""
        super().__post_init__()
        if self.dimensions < 1:
            raise ConfigError(f"dimensions: expected at least 1, found {self.dimensions}.")

    def rank(self, bank: Bank) -> list[Rating]:
        """The mean score of each candidate's rows."""
        samples = [bank.sample(candidate) for candidate in bank.candidates]
        by_seed = [self._scores(bank, seed, samples) for seed in bank.seeds]
        ratings = []
        for i, candidate in enumerate(bank.candidates):
            scores = [scores[i] for scores in by_seed]
            ratings.append(rated(candidate.name, scores[0] if len(scores) == 1 else np.mean(scores, axis=1)))
        return ratings

    def rate_rows(self, bank: Bank, candidate: Task) -> Floats:
        """The score of each training row, the mean over seeds, ``[rows]``."""
        scores: Floats = np.mean([self._scores(bank, seed, [candidate])[0] for seed in bank.seeds], axis=0)
        return scores

    def _scores(self, bank: Bank, seed: int, tasks: Sequence[Task]) -> list[Floats]:
        """The scores of all training rows of some tasks, ``[rows]`` each, at one seed's checkpoint."""
        encoder, projection = bank.joint(seed), Projection(self.dimensions, bank.seed)
        own = [part.sum(0) for _, part in directions(encoder, bank.sample(bank.task), projection)]
        aim = F.normalize(torch.stack(own).sum(0), dim=0)
        found = []
        for task in tasks:
            scores = np.zeros(len(task.rows("train")))
            for rows, part in directions(encoder, task, projection):
                scores[rows] = (part @ aim).cpu().numpy()
            found.append(scores)
        return found


def directions(encoder: Encoder, task: Task, projection: Projection) -> Iterator[tuple[Ints, Tensor]]:
    """Where the gradients of a task's training rows point.

    Args:
        encoder: Has a head for the task.
        task: The task.
        projection: Applied to the gradients.

    Yields:
        Some rows, and their projected gradients scaled to length 1, float32 ``[rows, dimensions]``; 0 where there is no
        gradient.
    """
    with at_rest(encoder):
        for rows, batch in batches(encoder, encode(encoder, task)):
            layers = row_gradients(encoder, task, batch)
            images = torch.stack([projection.of(name, pieces) for name, pieces in layers]).sum(0)
            yield rows, F.normalize(images, dim=1)
