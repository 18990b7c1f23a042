"""Maskers that score units: by words and what is known of them, or by asking a model."""

import importlib
import json
import sys
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from trivium.core import JSON
from trivium.errors import ArtifactError, ConfigError
from trivium.kinds import Batch
from trivium.masking.protocol import Groups, Scorer
from trivium.masking.units import Unit, Units, check_rate, gumbel, hide
from trivium.store import atomic_folder

_ABOUT = "masker.json"


def class_name(thing: object) -> str:
    """The class of something, as ``class_named`` finds it again."""
    return f"{type(thing).__module__}:{type(thing).__qualname__}"


def class_named(name: str) -> Any:
    """The class that a name such as ``trivium.masking.words:WordTable`` stands for.

    A folder that somebody else sends names classes too, and importing a module runs it. So nothing is imported here but
    modules of trivium: a class of another module is found where the study file, or the caller, imported that before.

    Raises:
        ImportError: it is of another module, which was not imported.
        AttributeError: there is no such class.
    """
    module, _, cls = name.partition(":")
    if module.partition(".")[0] != "trivium" and module not in sys.modules:
        raise ImportError(f"it names the class {name}, of a module that a saved masker may not import; import it first")
    found = getattr(sys.modules.get(module) or importlib.import_module(module), cls)
    if not (isinstance(found, type) and hasattr(found, "load")):
        raise AttributeError(f"expected a class that can be loaded under the name {name}, found {found!r}")
    return found


@dataclass(frozen=True)
class Draw:
    """How units are taken by their scores: the keys that all scored maskers have in common.

    Attributes:
        rate: Share of the units to hide.
        unit: What is hidden or shown as a whole: ``word`` or ``token``.
        temperature: 0 takes the highest scores, the same of a text every time. Above 0, units are drawn without
            replacement, by the exponential of score / temperature: 1 is the score itself, more is nearer to random.
    """

    rate: float = 0.15
    unit: Unit = "word"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_rate(self.rate)
        if not 0 <= self.temperature < float("inf"):
            raise ConfigError(f"masker.temperature: expected a number from 0, found {self.temperature}.")

    def by(self, scorer: Scorer, about: JSON = None) -> "ScoredMasker":
        """A masker that takes units so, by the scores of a scorer."""
        return ScoredMasker(Draw(self.rate, self.unit, self.temperature), scorer, about or {})


@dataclass(frozen=True)
class ScoredMasker:
    """A masker that is ready: it hides what its scorer finds worth hiding.

    Attributes:
        draw: How units are taken by their scores.
        scorer: What scores them.
        about: What is known of it, as JSON; kept with it.
    """

    draw: Draw
    scorer: Scorer
    about: JSON = field(default_factory=dict, compare=False)

    def choose(self, batch: Batch, rng: torch.Generator) -> Tensor:
        """Return bool ``[texts, length]``."""
        together = partial(self.scorer.groups, batch) if isinstance(self.scorer, Groups) else None

        def order(units: Units, rng: torch.Generator) -> Tensor:
            scores = self.scorer.scores(batch, units)
            if self.draw.temperature == 0:
                return scores
            noise = gumbel(scores.shape, rng)
            return scores / self.draw.temperature + (noise if together is None else noise.gather(1, together(units)))

        return hide(batch, self.draw.rate, self.draw.unit, rng, order, together)

    def save_pretrained(self, folder: Path | str) -> None:
        """Write the masker into a folder: ``masker.json`` and what its scorer needs."""
        with atomic_folder(Path(folder)) as scratch:
            self.save(scratch)

    def save(self, folder: Path) -> None:
        """Write the masker into a folder that is there."""
        about = {
            "scorer": class_name(self.scorer),
            "draw": asdict(self.draw),
            "settings": self.scorer.save(folder),
            "about": self.about,
        }
        (folder / _ABOUT).write_text(json.dumps(about, indent=1, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> Self:
        """Read what ``save_pretrained`` wrote.

        Raises:
            ArtifactError: the folder holds no masker.
        """
        folder = Path(folder)
        try:
            about: Any = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
            kind = class_named(about["scorer"])
            return cls(Draw(**about["draw"]), kind.load(folder, about["settings"]), about["about"])
        except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
            raise ArtifactError(
                f"{folder}: expected a masker that was saved ({_ABOUT} and what it names), found: {error}."
            ) from error
