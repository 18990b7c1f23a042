"""GradTS (Ma et al. 2021): tasks, and rows of them, to which the same attention heads matter as to the task."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from trivium import seeds
from trivium.auxiliary.affinity import AFFINITIES, Affinity, bootstrap, combined
from trivium.auxiliary.choosers import Chooser, Decide, RowChooser
from trivium.auxiliary.importance import Estimator, Normalise, normalised
from trivium.auxiliary.protocol import Bank, Rating
from trivium.core import Floats, Task
from trivium.errors import ConfigError


@dataclass(frozen=True)
class GradTS(Chooser):
    """Rank candidates by whether the same heads matter to them as to the task, then try the first few (GradTS-trial).

    Every task is learned alone; then it is measured how much each attention head matters to each row. A candidate is
    rated by the rank correlation of its mean importances with the task's.

    Attributes:
        estimator: ``gate``: gradient of a row's loss with respect to a gate on the head's output (Michel et al. 2019,
            equation 2). ``kv_weight``: mean absolute gradient of the head's key and value weights, as GradTS says.
            ``kv_weight_legacy``: the same sliced along the wrong axis, as its code does.
        affinity: ``kendall`` (tau-b, as GradTS), ``spearman`` or ``cosine``.
        normalise: What makes layers comparable first: ``layer_sum`` (as GradTS), ``layer_l2``, ``global`` or ``none``.
    """

    estimator: Estimator = "gate"
    affinity: Affinity = "kendall"
    normalise: Normalise = "layer_sum"

    def rank(self, bank: Bank) -> list[Rating]:
        """Rate by affinity, the mean over seeds; intervals over rows and seeds."""
        measured = bank.importance([bank.task, *bank.candidates], self.estimator)
        normalise = partial(normalised, how=self.normalise)
        found = []
        for candidate in bank.candidates:
            per_seed = []
            for i, (own, other) in enumerate(zip(measured[bank.task.name], measured[candidate.name], strict=True)):
                rng = seeds.numpy_rng(bank.seed, "affinity", candidate.name, i)
                per_seed.append(
                    bootstrap(own.instances, other.instances, AFFINITIES[self.affinity], normalise, rng=rng)
                )
            found.append(Rating(candidate.name, *combined(per_seed)))
        return found


@dataclass(frozen=True)
class GradTSThreshold(GradTS):
    """Learn every candidate whose affinity is high enough (GradTS-thres)."""

    decide: Decide = "threshold"
    threshold: float = 0.3


@dataclass(frozen=True)
class GradTSRows(GradTS, RowChooser):
    """The same, then of each chosen task the rows to which the same heads matter as to the task (GradTS-fg).

    A row is rated by the affinity of its own importances with the mean ones of the task, the mean over seeds.
    """

    rows: int | None = None

    def rate_rows(self, bank: Bank, candidate: Task) -> Floats:
        """Rate rows by affinity; one without a gradient at any head is worth nothing."""
        if len(bank.sample(candidate).rows("train")) < len(candidate.rows("train")):
            raise ConfigError(
                f"gradts-fg, rows: expected none, or as many as a candidate has, so that every row is rated; found "
                f"{self.rows} for the {len(candidate.rows('train'))} rows of '{candidate.name}'. Keep fewer rows of "
                "the task when it is loaded."
            )
        measured = bank.importance([bank.task, candidate], self.estimator)
        affinity, found = AFFINITIES[self.affinity], []
        for own, other in zip(measured[bank.task.name], measured[candidate.name], strict=True):
            task = own.matrix(self.normalise).reshape(1, -1)
            each = other.each(self.normalise).reshape(len(other.instances), -1)
            found.append(np.nan_to_num(affinity(task, each)[0], nan=-1.0))
        mean: Floats = np.mean(found, axis=0)
        return mean
