"""All maskers by the names that a study file calls them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from trivium.masking.gradalign import GradAlign
from trivium.masking.language import Entropy, ExcessLoss
from trivium.masking.linguistic import Entity, PartOfSpeech, Punctuation
from trivium.masking.ngrams import PMI
from trivium.masking.protocol import Known
from trivium.masking.rules import RandomTokens, Spans, WholeWord
from trivium.masking.scored import Draw, ScoredMasker
from trivium.masking.selective import Selective
from trivium.masking.statistics import TFICF, Difference, InforMask
from trivium.masking.tasks import AnswerLike, Saliency
from trivium.store import demand_unchanged


@dataclass(frozen=True)
class Saved:
    """A masker that was fitted, or learned, before and kept (``save_pretrained``).

    Attributes:
        path: The folder that it was written to. Its encoder must have had the same tokenizer.
        rate: Share of the units to hide; none: as it was kept.
        temperature: 0 takes the highest scores, above 0 units are drawn; none: as it was kept.
    """

    path: Path
    rate: float | None = None
    temperature: float | None = None

    def __post_init__(self) -> None:
        usual = Draw()
        replace(  # says what is wrong with them
            usual,
            rate=usual.rate if self.rate is None else self.rate,
            temperature=usual.temperature if self.temperature is None else self.temperature,
        )

    def fit(self, known: Known) -> ScoredMasker:
        """The masker as it was kept.

        Raises:
            ArtifactError: the folder holds none, or not the one that a study wrote there.
        """
        demand_unchanged(self.path)
        masker = ScoredMasker.from_pretrained(self.path)
        kept = masker.draw
        rate = kept.rate if self.rate is None else self.rate
        temperature = kept.temperature if self.temperature is None else self.temperature
        return replace(masker, draw=replace(kept, rate=rate, temperature=temperature))


MASKERS: Mapping[str, type[Any]] = {
    "random": RandomTokens,
    "whole_word": WholeWord,
    "span": Spans,
    "punctuation": Punctuation,
    "entity": Entity,
    "pos": PartOfSpeech,
    "pmi": PMI,
    "informask": InforMask,
    "difference": Difference,
    "tficf": TFICF,
    "entropy": Entropy,
    "excess_loss": ExcessLoss,
    "saliency": Saliency,
    "selective": Selective,
    "answerlike": AnswerLike,
    "gradalign": GradAlign,
    "saved": Saved,
}
