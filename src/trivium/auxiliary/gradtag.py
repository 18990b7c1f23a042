"""What learning beside candidates would come to, estimated near one joint training, without any trial."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from scipy.optimize import minimize
from scipy.special import expit

from trivium import seeds
from trivium.auxiliary.choosers import Chooser, Decide
from trivium.auxiliary.projections import Projection, row_gradients
from trivium.auxiliary.protocol import Bank, Choice, Rating
from trivium.core import COUNT, POSITIVE, Floats, Task, demand
from trivium.encoders import Encoder
from trivium.kinds import kind_of
from trivium.masking.asking import at_rest, batches, states

_LEAST = 1e-6  # the smallest loss that a margin is taken of: below it, float32 hardly knows it from 0
_DRAWS = 2000  # of the bootstrap


@dataclass(frozen=True)
class GradTag(Chooser):
    """Rate by what a linearised model says of learning beside candidates (Grad-TAG): one training, and no trial.

    Near the weights after joint training, a row's margin moves along its gradient, so "to learn the task beside these"
    is to fit a convex model to the projected gradients of their rows. Sets of candidates are drawn, and with each what
    it leaves out; the value of a set is minus the mean loss that its fit has on the task's rows that were kept back. A
    score is the mean value of the sets with a candidate minus that of the sets without it: above 0, it helps. The
    interval is a bootstrap over sets.

    The margin of a row with loss ℓ is -log(exp ℓ - 1), so that ℓ = log(1 + exp(-margin)) and the fit is a logistic
    regression. For a label with probability p, where ℓ = -log p, it is the log-odds of p, as in the paper; the losses
    of other kinds are such cross-entropies too, or means of them. Only squared errors are not: their margin is the
    error, and the fit a ridge regression.

    Gradients are those of ``row_gradients``: of the weights that make keys and values; the others, and the heads, stay
    as they are. The paper's code fits from margins of 0; here a row starts from the margin that it has. Every row of
    ``Bank.sample`` counts the same.

    Source: Li, Sharma and Zhang 2024 (arXiv 2409.06091), section 3; they cluster many tasks by these scores, which is
    not needed for one.

    Attributes:
        decide: Beside those of all choosers, ``estimate``: the prefix of the ranking that is estimated to be best, none
            being a legal answer; no trial is run.
        dimensions: Of the projected gradients.
        pairs: How many sets are drawn, each with what it leaves out; fewer where there are not so many.
        ridge: Weight of the penalty on the fit for each row of the task, where the root mean square of gradients is 1.
            It does not grow with the rows of candidates, since what is learned beside a task takes no updates from it.
    """

    decide: Decide | Literal["estimate"] = "estimate"  # type: ignore[assignment]
    dimensions: int = 200
    pairs: int = 50
    ridge: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what cannot be fitted."""
        super().__post_init__()
        demand(self, "", {COUNT: ("dimensions", "pairs"), POSITIVE: ("ridge",)})

    def rank(self, bank: Bank) -> list[Rating]:
        """How much better sets with a candidate are estimated to be than sets without it."""
        return self._rated(bank, self._surroundings(bank))

    def choose(self, bank: Bank) -> Choice:
        """What to learn beside the task; ``how`` has the estimated value of every prefix, none first."""
        if self.decide != "estimate":
            return super().choose(bank)
        near = self._surroundings(bank)
        ratings = tuple(sorted(self._rated(bank, near), key=lambda one: -one.score))
        names = [one.name for one in ratings]
        values = [float(np.mean([one.value(frozenset(names[:k])) for one in near])) for k in range(len(names) + 1)]
        best = int(np.argmax(values))  # of equals the shortest
        candidates = {task.name: task for task in bank.candidates}
        return Choice(tuple(candidates[name] for name in names[:best]), ratings, how={"estimates": values})

    def _rated(self, bank: Bank, near: Sequence["Surroundings"]) -> list[Rating]:
        names = [one.name for one in bank.candidates]
        sets = complements(len(names), self.pairs, seeds.numpy_rng(bank.seed, "gradtag", "sets"))
        gains = np.concatenate([one.gains(names, sets) for one in near])
        return [bootstrapped(name, gains[:, i], bank.seed) for i, name in enumerate(names)]

    def _surroundings(self, bank: Bank) -> list["Surroundings"]:
        """What is known near the joint training of each seed."""
        projection, found = Projection(self.dimensions, bank.seed), []
        sampled = [bank.sample(one) for one in (bank.task, *bank.candidates)]
        for seed in bank.seeds:
            encoder = bank.joint(seed)
            learned = {one.name: linearised(encoder, one, one.rows("train"), projection) for one in sampled}
            judge = linearised(encoder, sampled[0], bank.task.rows("dev"), projection)
            found.append(Surroundings.of(bank.task.name, learned, judge, self.ridge))
        return found


def complements(many: int, pairs: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Sets of candidates, bool ``[pairs, many]``, each of which stands for what it leaves out, too.

    All there are, where they are few; otherwise every candidate is in or out with the same chance.

    >>> complements(2, 5, np.random.default_rng(0)).tolist()
    [[False, False], [True, False]]
    """
    if 2 ** max(0, many - 1) <= pairs:
        within: npt.NDArray[np.bool_] = (np.arange(2 ** max(0, many - 1))[:, None] >> np.arange(many)) % 2 == 1
        return within
    return rng.random((pairs, many)) < 0.5


def bootstrapped(name: str, values: Floats, seed: int) -> Rating:
    """The mean of some values, with a bootstrap interval; a single one does not say how sure it is.

    >>> bootstrapped("sst", np.array([1.0, 3.0]), 0)
    Rating(name='sst', score=2.0, low=1.0, high=3.0)
    """
    if len(values) < 2:
        return Rating(name, float(values.mean()))
    picks = seeds.numpy_rng(seed, "gradtag", "bootstrap", name).integers(len(values), size=(_DRAWS, len(values)))
    low, high = np.quantile(values[picks].mean(1), [0.025, 0.975])
    return Rating(name, float(values.mean()), float(low), float(high))


@dataclass(frozen=True)
class Linearised:
    """Rows of a task near some weights: a small change w of the weights makes their margins ``margins + slopes @ w``.

    Attributes:
        margins: ``[rows]``.
        slopes: Gradients of the margins, projected, ``[rows, dimensions]``.
        squares: Whether a row's loss is its margin squared; otherwise it is log(1 + exp(-margin)).
    """

    margins: Floats
    slopes: Floats
    squares: bool

    @classmethod
    def of(cls, losses: Floats, slopes: Floats, squares: bool) -> Self:
        """From losses and their gradients.

        >>> likely = Linearised.of(np.array([-np.log(0.8)]), np.array([[1.0]]), squares=False)
        >>> likely.margins.round(3), likely.slopes.round(3)  # the log-odds, log 4, and d margin / d loss = -1 / 0.2
        (array([1.386]), array([[-5.]]))
        """
        losses = losses.clip(min=_LEAST)
        if squares:
            margins = np.sqrt(losses)
            return cls(margins, slopes / (2 * margins)[:, None], squares)
        rest = -np.expm1(-losses)  # of a label: the probability of all others
        return cls(-losses - np.log(rest), -slopes / rest[:, None], squares)

    def losses(self, change: Floats) -> tuple[Floats, Floats]:
        """The loss of each row after a change of the weights, and its derivative by the margin, ``[rows]`` each."""
        moved = self.margins + self.slopes @ change
        return (moved**2, 2 * moved) if self.squares else (np.logaddexp(0, -moved), -expit(-moved))


def fitted(parts: Sequence[Linearised], penalty: float) -> Floats:
    """The change of the weights with the smallest sum of losses, over all rows, plus penalty / 2 · ‖change‖²."""

    def objective(change: Floats) -> tuple[float, Floats]:
        value, slope = penalty / 2 * float(change @ change), penalty * change
        for part in parts:
            losses, by_margin = part.losses(change)
            value, slope = value + float(losses.sum()), slope + by_margin @ part.slopes
        return value, slope

    change: Floats = minimize(objective, np.zeros(parts[0].slopes.shape[1]), jac=True, method="L-BFGS-B").x
    return change


@dataclass(frozen=True)
class Surroundings:
    """All tasks near the weights of one joint training.

    Attributes:
        task: Name of the task.
        learned: Training rows of the task and of each candidate, by name.
        judge: Rows of the task that were kept back.
        ridge: See ``GradTag``.
    """

    task: str
    learned: Mapping[str, Linearised]
    judge: Linearised
    ridge: float
    _known: dict[frozenset[str], float] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, task: str, learned: Mapping[str, Linearised], judge: Linearised, ridge: float) -> Self:
        """The same with gradients in units of their root mean square over all training rows."""
        unit = float(np.sqrt(np.concatenate([(one.slopes**2).sum(1) for one in learned.values()]).mean())) or 1.0
        scaled = {name: replace(one, slopes=one.slopes / unit) for name, one in learned.items()}
        return cls(task, scaled, replace(judge, slopes=judge.slopes / unit), ridge)

    def value(self, beside: frozenset[str]) -> float:
        """Minus the mean loss of the kept rows after learning the task beside some candidates, as estimated."""
        if beside not in self._known:
            own, others = self.learned[self.task], [self.learned[name] for name in sorted(beside)]
            change = fitted([own, *others], self.ridge * len(own.margins))
            self._known[beside] = -float(self.judge.losses(change)[0].mean())
        return self._known[beside]

    def gains(self, names: Sequence[str], sets: npt.NDArray[np.bool_]) -> Floats:
        """How much better the set with a candidate is than its complement, of each pair, ``[pairs, candidates]``."""
        found = np.zeros(sets.shape)
        for i, within in enumerate(sets):
            one, other = (frozenset(np.array(names)[side].tolist()) for side in (within, ~within))
            gain = self.value(one) - self.value(other)
            found[i] = np.where(within, gain, -gain)
        return found


def linearised(encoder: Encoder, task: Task, rows: pa.Table, projection: Projection) -> Linearised:
    """Margins of some rows, and their projected gradients.

    Args:
        encoder: Has a head for the task.
        task: With training rows, which say in which units a number's error is measured.
        rows: The rows; the loss of one is the mean over the answers that it is asked for.
        projection: Applied to the gradients.
    """
    kind = kind_of(task)
    unit = kind.weights(task.rows("train"), task.labels, "none")
    scale = 1.0 if unit is None else float(unit[0])
    encoded = kind.encode(encoder.tokenizer, rows, task.labels, encoder.cut_of(task.name))
    losses, slopes = np.zeros(len(encoded)), np.zeros((len(encoded), projection.dimensions))
    with at_rest(encoder):
        for place, batch in batches(encoder, encoded):
            share = scale / kind.weight(batch).clamp(min=1)
            with torch.no_grad():
                each = kind.loss(encoder.answer(task.name, states(encoder, batch), batch), batch, None)
            layers = row_gradients(encoder, task, batch)
            images = torch.stack([projection.of(name, pieces) for name, pieces in layers]).sum(0)
            losses[place] = (each * share).double().cpu().numpy()
            slopes[place] = (images * share[:, None]).double().cpu().numpy()
    return Linearised.of(losses, slopes, squares=task.kind == "regress")
