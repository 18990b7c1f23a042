"""A policy that begins with what first-order credit prefers (``gradalign``), instead of with chance."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trivium.encoders.streams import collate, cut
from trivium.masking import Known
from trivium.masking.gradalign import GradAlign
from trivium.masking.units import Units
from trivium.nmg.actor import Actor
from trivium.nmg.bank import single

_STEPS, _RATE, _TOKENS = 200, 0.02, 8192


def warm_up(policy: Any, actor: Actor, known: Known) -> None:
    """Fit a policy's logits, in place, to the alignment of each unit's gradient with the task's.

    Alignments are standardised within each text, since a policy only compares units of the same text. Rows that reward
    the policy or judge it are not looked at.

    Args:
        policy: What is to begin there.
        actor: Knows the texts that are played with.
        known: The training rows, of which those of these texts are taken.
    """
    arena, settings = actor.arena, actor.settings
    rows = np.flatnonzero(np.isin(arena.of_row, arena.parts.learn))
    aligned = GradAlign(settings.rate, settings.unit).fit(replace(known, task=arena.rows(rows)))
    windows, encoder = single(arena.encoded), arena.encoder
    optimizer = torch.optim.Adam(policy.parameters(), _RATE if settings.policy == "linear" else 10 * settings.lr)
    batches = []
    for block in cut(np.argsort(windows.lengths, kind="stable"), windows, None, _TOKENS):
        batch = collate(windows, block, encoder.tokenizer.pad_token_id, types=encoder.wants_types)
        units = Units.in_batch(batch, settings.unit)
        batches.append((torch.from_numpy(block), _standard(aligned.scorer.scores(batch, units), units.there)))
    for step in range(_STEPS):
        chosen, wanted = batches[step % len(batches)]
        logits, _ = policy(*actor.look(chosen))
        there = wanted.isfinite()
        loss = ((_standard(logits, there, scale=False) - wanted)[there] ** 2).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _standard(values: Tensor, there: Tensor, *, scale: bool = True) -> Tensor:
    """Values with mean 0 over the units of each text, and standard deviation 1 if they are to be scaled; else nan."""
    inside = torch.where(there, values, 0.0)
    many = there.sum(1, keepdim=True).clamp(min=1)
    centred = torch.where(there, inside - inside.sum(1, keepdim=True) / many, 0.0)
    if scale:
        centred = centred / (centred.square().sum(1, keepdim=True) / many).sqrt().clamp(min=1e-9)
    return torch.where(there, centred, torch.nan)
