"""The one way to hide a token: 80 % mask, 10 % a random token, 10 % left as it is (BERT, Devlin et al. 2019)."""

from typing import NamedTuple

import torch
from torch import Tensor


class Corrupted(NamedTuple):
    """A batch with gaps.

    Attributes:
        ids: Token ids with the chosen ones hidden, int64 ``[rows, length]``.
        positions: Where they stood, as indices into ``ids.flatten()``, int64 ``[chosen]``.
        targets: What they were, int64 ``[chosen]``.
    """

    ids: Tensor
    positions: Tensor
    targets: Tensor

    def labels(self) -> Tensor:
        """The targets laid out as transformers wants them: ``[rows, length]``, -100 wherever nothing is asked."""
        flat = torch.full_like(self.ids, -100).flatten()
        flat[self.positions] = self.targets
        return flat.view_as(self.ids)


def corrupt(ids: Tensor, chosen: Tensor, mask_id: int, vocabulary: int, rng: torch.Generator) -> Corrupted:
    """Hide the chosen tokens.

    Args:
        ids: Token ids, int64 ``[rows, length]``, on the CPU.
        chosen: What a masker chose, bool ``[rows, length]``.
        mask_id: Id of the mask token.
        vocabulary: Number of token ids; a random token is any of them.
        rng: Source of the 80/10/10 draw.

    The draws belong to places, chosen or not: where two maskers agree and the generator is the same, they hide a token
    alike.

    Returns:
        The ids with gaps, and the positions and targets of the chosen tokens only: the loss needs no others.

    Source: Devlin et al. 2019, section 3.1.

    >>> ids, chosen = torch.tensor([[5, 6, 7]]), torch.tensor([[False, True, False]])
    >>> corrupt(ids, chosen, 1, 10, torch.Generator().manual_seed(0)).labels().tolist()
    [[-100, 6, -100]]
    """
    positions = chosen.flatten().nonzero().squeeze(1)
    targets = ids.flatten()[positions]
    draw = torch.rand(ids.shape, generator=rng).flatten()[positions]
    strangers = torch.randint(vocabulary, ids.shape, generator=rng).flatten()[positions]
    replaced = torch.where(draw < 0.8, mask_id, torch.where(draw < 0.9, strangers, targets))
    hidden = ids.flatten().index_put((positions,), replaced).view_as(ids)
    return Corrupted(hidden, positions, targets)
