"""What to hide: a masker decides *where*, ``corrupt`` alone decides *how*.

A masker is a frozen dataclass with one method, ``choose``; its fields are its keys in the study file. One that learns
from texts first has ``fit``, which returns such a masker. To add one, write such a class anywhere and name it in the
file as ``masker: {kind: "my_module:MyMasker"}``. Read ``units.py`` for the budget that all share, ``rules.py`` for the
simplest ones, ``scored.py`` for those that score units, and ``policy.py`` for one that is learned (in ``nmg``). How a
model is trained to fill the gaps stands in ``training``.
"""

from trivium.kinds import Batch
from trivium.masking.collator import MaskingCollator
from trivium.masking.gaps import Corrupted, corrupt
from trivium.masking.maskers import MASKERS
from trivium.masking.protocol import Fits, Known, Masker, Models
from trivium.masking.rules import RandomTokens, Spans, WholeWord
from trivium.masking.scored import Draw, ScoredMasker

__all__ = [
    "MASKERS",
    "Batch",
    "Corrupted",
    "Draw",
    "Fits",
    "Known",
    "Masker",
    "MaskingCollator",
    "Models",
    "RandomTokens",
    "ScoredMasker",
    "Spans",
    "WholeWord",
    "corrupt",
]
