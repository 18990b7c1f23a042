"""What the arms of a study hide: looked at once each, kept as artifacts, and compared."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

import trivium
from trivium.core import JSON
from trivium.data.saved import load_saved_task
from trivium.masking import Fits, Masker, RandomTokens, ScoredMasker, WholeWord
from trivium.masking.linguistic import Entity, PartOfSpeech
from trivium.store import Artifact, Store
from trivium.study.arms import Arm, spelled_masker
from trivium.study.hiding import Hidden, describe, overlap
from trivium.study.hiding_sample import Sample, installed_pipeline
from trivium.study.progress import Reporter
from trivium.study.reading import load_reading_tokenizer
from trivium.training import masks

_LENGTH = 128  # tokens of a text; shorter where the arm's inputs are
_ABOUT, _HIDDEN = "hiding.json", "hidden.safetensors"


@dataclass(frozen=True)
class Hider:
    """An arm that hides.

    Attributes:
        arm: The arm.
        reading: Its tokenizer.
        fitted: Its masker, if it learned first.
    """

    arm: Arm
    reading: Artifact
    fitted: Artifact | None

    @property
    def length(self) -> int:
        """Longest text that is looked at, in tokens."""
        return min(_LENGTH, max(stage.max_length for stage in self.arm.recipe.stages))

    def masker(self) -> Masker:
        """Its masker, ready to choose."""
        if self.fitted is not None:
            return ScoredMasker.from_pretrained(self.fitted.folder)
        assert not isinstance(self.arm.recipe.masker, Fits)  # it would have been fitted
        return self.arm.recipe.masker


def worth_a_look(arms: Mapping[str, Arm]) -> bool:
    """Whether any arm hides by more than chance: what random masking hides is known beforehand."""
    maskers = [arm.recipe.masker for arm in arms.values() if masks(arm.recipe.stages)]
    return not all(isinstance(masker, RandomTokens | WholeWord) for masker in maskers)


def look(store: Store, task: Artifact, hiders: Sequence[Hider], reporter: Reporter) -> dict[str, Artifact]:
    """Look at what each arm hides in the training texts, or find it looked at.

    Args:
        store: Where what is seen is kept.
        task: The sealed task.
        hiders: The arms that hide.
        reporter: Who is told how it goes.

    Returns:
        Of each arm, the artifact that ``told`` reads.
    """
    pipeline = _pipeline(hiders)
    samples: dict[tuple[str, int], Sample] = {}
    made = {}

    def sample_of(hider: Hider) -> Sample:
        key = hider.reading.key, hider.length
        if key not in samples:
            texts = load_saved_task(task.folder).passages()[0]
            tokenizer = load_reading_tokenizer(hider.reading.folder)
            samples[key] = Sample.of(tokenizer, texts, length=hider.length, pipeline=pipeline)
        return samples[key]

    with reporter.phase("looking at what is hidden") as bar:
        for i, hider in enumerate(hiders):
            inputs = {
                "trivium": trivium.__version__,
                "task": task.key,
                "reading": hider.reading.key,
                "masker": hider.fitted.key if hider.fitted else spelled_masker(hider.arm.recipe.masker),
                "length": hider.length,
                "pipeline": pipeline,
            }
            write = _writer(hider, sample_of)
            made[hider.arm.name] = store.make("hiding", inputs, write)
            bar(i + 1, len(hiders))
    return made


def _writer(hider: Hider, sample_of: Callable[[Hider], Sample]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        about, hidden = describe(hider.masker(), sample_of(hider))
        (folder / _ABOUT).write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
        save_file({"words": np.packbits(hidden.words, axis=1), "texts": hidden.texts}, folder / _HIDDEN)

    return write


def _pipeline(hiders: Sequence[Hider]) -> str | None:
    """The spaCy pipeline that says what words are: one that an arm's masker asks, or else one that is installed."""
    asked = (hider.arm.recipe.masker for hider in hiders)
    named = [masker.model for masker in asked if isinstance(masker, PartOfSpeech | Entity)]
    return next(iter(named), None) or installed_pipeline()


def overlaps(made: Mapping[str, Artifact]) -> list[JSON]:
    """How much each two arms hide of the same: ``a``, ``b`` and what ``hiding.overlap`` says."""
    found = {arm: _load(artifact.folder) for arm, artifact in made.items()}
    return [{"a": a, "b": b, **overlap(found[a], found[b])} for a, b in combinations(found, 2)]


def _load(folder: Path) -> Hidden:
    kept = load_file(folder / _HIDDEN)
    words = np.unpackbits(kept["words"], axis=1, count=len(kept["texts"]))
    return Hidden(words.astype(bool), kept["texts"])


def told(made: Mapping[str, Artifact], arms: Mapping[str, Arm]) -> JSON:
    """What was seen, as JSON: ``arms``, each its ``masker``, ``folder`` and what ``describe`` says; and ``overlap``."""
    return {
        "arms": {
            name: {
                "masker": spelled_masker(arms[name].recipe.masker),
                "folder": str(artifact.folder),
                **json.loads((artifact.folder / _ABOUT).read_text(encoding="utf-8")),
            }
            for name, artifact in made.items()
        },
        "overlap": overlaps(made),
    }
