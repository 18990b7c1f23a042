"""First-order credit: by how much learning to fill a gap would lower the loss of the task."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Self

import pyarrow as pa
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from trivium import seeds
from trivium.core import JSON, Task
from trivium.encoders import Encoder
from trivium.encoders.encoder import torch_device
from trivium.errors import ConfigError
from trivium.kinds import Batch, kind_of
from trivium.masking.asking import Asks, Gaps, InRounds, at_rest, batches, encode, guesses, leaf_at, states, told
from trivium.masking.protocol import Known
from trivium.masking.scored import ScoredMasker
from trivium.masking.units import Units

_KEPT = "gradient.safetensors"
_loss = partial(F.cross_entropy, reduction="none")


@dataclass(frozen=True)
class GradAlign(InRounds):
    """Hide what helps the task most to learn, to first order: units whose gradient points where the task's does.

    A small step down the loss of one gap lowers the task's loss, on rows that the model has not learned, by the inner
    product of the two gradients. Only one layer is looked at: the last one that each position goes through on its own.

    Attributes:
        held_out: Share of the training rows, drawn by chance, whose loss is to be lowered; the model learns the others.

    Source: the credit that TracIn gives to training rows (Pruthi et al. 2020, section 3), given to gaps; computed by
    ghost dot-products (Wang et al. 2024, arXiv 2406.11011), without a gradient for each gap.
    """

    seeded: ClassVar[bool] = True

    held_out: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.held_out < 1:
            raise ConfigError(f"masker.held_out: expected a share between 0 and 1, found {self.held_out}.")

    def fit(self, known: Known) -> ScoredMasker:
        """Learn some of the training rows, and take the gradient of the others' loss.

        Raises:
            ConfigError: there is only one.
        """
        learned, held = halves(known.task, self.held_out, known.seed)
        encoder = known.models.finetuned(learned)
        about = {"learned": len(learned.rows("train")), "held_out": len(held.rows("train"))}
        return self.by(Aligned(encoder, self.rounds, task_gradient(encoder, held)), about)


def halves(task: Task, share: float, seed: int) -> tuple[Task, Task]:
    """The task with some of its training rows, and with the others, a ``share`` of them; each has at least one.

    Raises:
        ConfigError: there are not two.
    """
    rows = task.rows("train")
    if len(rows) < 2:
        raise ConfigError(
            f"task '{task.name}': expected at least 2 training rows, some to learn and some to hold out, found "
            f"{len(rows)}. Add rows, or choose a masker that holds none out."
        )
    order = seeds.numpy_rng(seed, "gradalign").permutation(len(rows))
    held = min(max(round(len(rows) * share), 1), len(rows) - 1)
    learned, out = (replace(task, tables={"train": rows.take(pa.array(i))}) for i in (order[held:], order[:held]))
    return learned, out


def last_linear(encoder: Encoder) -> nn.Linear:
    """The last linear layer of the backbone that makes hidden states: each position goes through it on its own.

    It is ``encoder.layer[-1].output.dense`` of BERT, ``layers[-1].mlp.Wo`` of ModernBERT, and
    ``transformer.layer[-1].ffn.lin2`` of DistilBERT.

    Raises:
        ConfigError: the architecture has none.
    """
    width = encoder.backbone.config.hidden_size
    stacks = [module for module in encoder.backbone.modules() if isinstance(module, nn.ModuleList) and len(module)]
    inside = stacks[-1][-1].modules() if stacks else ()
    found = [layer for layer in inside if isinstance(layer, nn.Linear) and layer.out_features == width]
    if not found:
        raise ConfigError(
            "masker gradalign: expected an encoder whose last layer ends in a linear one, as BERT's and ModernBERT's "
            f"do, found the architecture '{encoder.backbone.config.model_type}'. Choose another masker for it."
        )
    return found[-1]


def task_gradient(encoder: Encoder, task: Task) -> Tensor:
    """The gradient of a task's mean loss with respect to the weight of ``last_linear``.

    Args:
        encoder: Has a head for the task.
        task: With the training rows to take the mean over.

    Returns:
        float32 ``[out, in]``, on the CPU.
    """
    kind, layer = kind_of(task), last_linear(encoder)
    gradient, answered = torch.zeros(layer.weight.shape, device=encoder.device), 0.0
    with at_rest(encoder), leaf_at(layer) as leaf:
        for _, batch in batches(encoder, encode(encoder, task)):
            logits = encoder.answer(task.name, states(encoder, batch), batch)
            (slopes,) = torch.autograd.grad(kind.loss(logits, batch, None).sum(), leaf.made)
            gradient += slopes.flatten(0, -2).T @ leaf.given.flatten(0, -2)
            answered += float(kind.weight(batch).sum())
    return (gradient / max(answered, 1.0)).cpu()


def alignments(encoder: Encoder, gradient: Tensor, batch: Batch, units: Units, rounds: int) -> Tensor:
    """How far a small step down the loss of each token, while its unit is hidden, goes down another loss.

    The gradient of the loss of position i with respect to the weight of ``last_linear`` is b_i a_iᵀ, where a_i is what
    goes into the layer at i and b_i the gradient with respect to what comes out. So its inner product with another
    gradient G is b_iᵀ G a_i, and one backward pass gives those of all gaps.

    Args:
        encoder: Who fills the gaps.
        gradient: G, ``[out, in]``, as ``task_gradient`` finds it.
        batch: The texts, on the CPU.
        units: What is hidden as a whole.
        rounds: In how many rounds the units of a text are hidden.

    Returns:
        Inner products, float32 ``[texts, length]``; 0 on tokens that are never hidden.
    """
    gradient = gradient.to(encoder.device)
    with leaf_at(last_linear(encoder)) as leaf:

        def products(gaps: Gaps) -> Tensor:
            losses = guesses(encoder, states(encoder, gaps.batch, gaps.ids), gaps, _loss)
            (slopes,) = torch.autograd.grad(losses.sum(), leaf.made)
            made, given = (part.flatten(0, -2)[gaps.positions] for part in (slopes, leaf.given))
            return ((made @ gradient) * given).sum(-1)

        return told(encoder, batch, units, rounds, products)


@dataclass(frozen=True, eq=False)
class Aligned(Asks):
    """How far a step on each unit would lower the loss of a task; a unit of several pieces is worth their mean.

    Attributes:
        encoder: Who fills the gaps.
        rounds: Rounds in which the units of a text are hidden.
        gradient: Of the task's loss, as ``task_gradient`` finds it, ``[out, in]``.
    """

    encoder: Encoder
    rounds: int
    gradient: Tensor

    def ask(self, batch: Batch, units: Units) -> Tensor:
        """Inner products, float32 ``[texts, width]``."""
        return units.mean(alignments(self.encoder, self.gradient, batch, units, self.rounds))

    def save(self, folder: Path) -> JSON:
        """Write the encoder and ``gradient.safetensors``."""
        self.encoder.save(folder / "encoder")
        save_file({"gradient": self.gradient.contiguous()}, folder / _KEPT)
        return {"rounds": self.rounds}

    @classmethod
    def load(cls, folder: Path, about: JSON) -> Self:
        """Read what ``save`` wrote and returned."""
        encoder = Encoder.load(folder / "encoder").to(torch_device())
        return cls(encoder, about["rounds"], load_file(folder / _KEPT)["gradient"])
