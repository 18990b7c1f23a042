"""All maskers by the names that a study file calls them, and how one that learns first is made ready."""

from collections.abc import Mapping
from typing import Any

from trivium.masking.protocol import Fits, Known, Masker
from trivium.masking.rules import RandomTokens, Spans, WholeWord

MASKERS: Mapping[str, type[Any]] = {"random": RandomTokens, "whole_word": WholeWord, "span": Spans}


def ready(masker: Masker | Fits, known: Known) -> Masker:
    """The masker itself, or what it makes of what may be known."""
    return masker.fit(known) if isinstance(masker, Fits) else masker
