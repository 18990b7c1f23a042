"""Tasks whose texts are alike: the free baseline that looks at no label."""

from dataclasses import dataclass

import numpy as np
import torch

from trivium import seeds
from trivium.auxiliary.choosers import Chooser
from trivium.auxiliary.projections import added_up
from trivium.auxiliary.protocol import Bank, Rating
from trivium.core import Floats, Task
from trivium.encoders import Encoder
from trivium.errors import ConfigError, DataError
from trivium.kinds import Cut, kind_of
from trivium.masking.asking import at_rest, batches, states

_DRAWS = 1000  # of the bootstrap
_WIDTH = 1.96  # standard errors to each end of an interval of 95 %


@dataclass(frozen=True)
class TextEmb(Chooser):
    """A candidate is rated by the cosine of the mean embedding of its texts with that of the task.

    A row's embedding is the mean of its tokens' last hidden states, padding and special tokens left out; a row of
    several texts has the tokens of all. The encoder is the one that trainings start from, with the first seed. Rows of
    both tasks are drawn with replacement: the interval reaches 1.96 standard deviations of the cosine to both sides.

    Attributes:
        centre: Take the mean over the embeddings of the task and all candidates off each. Embeddings of an encoder
            have much in common, and cosines are all near 1 otherwise; now they compare with the candidates at hand.

    Source: TextEmb (Vu et al. 2020, section 4).
    """

    centre: bool = False

    def rank(self, bank: Bank) -> list[Rating]:
        """The cosine of each candidate's embedding with the task's.

        Raises:
            ConfigError: ``centre`` with a single candidate: what is left of it is the opposite of the task.
            DataError: a task has no text.
        """
        if self.centre and len(bank.candidates) == 1:
            raise ConfigError(
                "centre: expected at least 2 candidates to compare, found 1. Leave it out, or add candidates."
            )
        encoder, stage = bank.language(bank.seeds[0]), bank.stage("finetune")
        cut, rng = Cut(stage.max_length, stage.long_text, stage.stride), seeds.numpy_rng(bank.seed, "textemb")
        embedded = [embeddings(encoder, bank.sample(task), cut) for task in (bank.task, *bank.candidates)]
        scores = self._cosines(np.stack([rows.mean(0) for rows in embedded]))
        reach = _WIDTH * self._cosines(np.stack([_resampled(rows, rng) for rows in embedded], 1)).std(0)
        ends = np.clip([scores - reach, scores + reach], -1, 1).T.tolist()
        return [
            Rating(task.name, score, *of)
            for task, score, of in zip(bank.candidates, scores.tolist(), ends, strict=True)
        ]

    def _cosines(self, means: Floats) -> Floats:
        """Of the first of some embeddings with the others, from ``[…, tasks, width]`` to ``[…, candidates]``."""
        means = means - means.mean(-2, keepdims=True) if self.centre else means
        means = means / np.maximum(np.linalg.norm(means, axis=-1, keepdims=True), np.finfo(float).tiny)
        cosines: Floats = (means[..., 1:, :] * means[..., :1, :]).sum(-1)
        return cosines


def embeddings(encoder: Encoder, task: Task, cut: Cut) -> Floats:
    """The mean last hidden state of each training row's tokens, float64 ``[rows with text, width]``.

    Args:
        encoder: Reads the texts; it needs no head.
        task: The task.
        cut: How long a text may be.

    Raises:
        DataError: no row has text.
    """
    encoded = kind_of(task).encode(encoder.tokenizer, task.rows("train"), task.labels, cut)
    sums = np.zeros((len(encoded), encoder.backbone.config.hidden_size + 1))
    with at_rest(encoder), torch.inference_mode():
        for rows, batch in batches(encoder, encoded):
            there = batch.maskable[..., None].float()
            texts = torch.cat([states(encoder, batch) * there, there], -1).sum(1)
            sums[rows] = added_up(texts, batch).cpu().numpy()
    found: Floats = sums[sums[:, -1] > 0]
    if not len(found):
        raise DataError(f"task '{task.name}': expected training rows with text, found none. Look at its file.")
    return found[:, :-1] / found[:, -1:]


def _resampled(rows: Floats, rng: np.random.Generator) -> Floats:
    """Means of rows that are drawn with replacement, from ``[rows, width]`` to ``[draws, width]``."""
    many = len(rows)
    means: Floats = rng.multinomial(many, np.full(many, 1 / many), _DRAWS) @ rows / many
    return means
