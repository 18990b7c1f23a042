"""Maskers that learn first, made ready for the workers: artifacts, keyed by all that they may have learned from."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from trivium.core import JSON, Corpus, Selection, Task, digest
from trivium.data.saved import load_saved_task
from trivium.documents.screens import Screens
from trivium.errors import ConfigError, while_doing
from trivium.masking import Fits, Known, ScoredMasker
from trivium.pretrained import content
from trivium.store import Artifact, Store
from trivium.study.arms import Arm, spelled_masker
from trivium.study.progress import Reporter
from trivium.study.reading import load_reading_tokenizer
from trivium.training import WarmHead, background_of, compares, make_ready, seed_of, what_is_known
from trivium.training.recipes import Spec


@dataclass
class Shared:
    """What the maskers of a study share: general text, and encoders to ask where arms read the same.

    Attributes:
        corpus: The study's corpus, if it has one that was read.
        task: The task with its held-out splits, which the screens alone look at.
        screens: What is left out.
    """

    corpus: Corpus | None
    task: Task
    screens: Screens
    _known: tuple[JSON, Known] | None = None

    @cached_property
    def background(self) -> list[str]:
        """A random part of the corpus, drawn when it is first asked for."""
        return [] if self.corpus is None else background_of(self.corpus, self.task, self.screens)

    def known(self, key: JSON, make: Callable[[], Known]) -> Known:
        """What may be known, made anew if the last masker's was another: its encoders take time, and memory."""
        if self._known is None or self._known[0] != key:
            self._known = None
            self._known = key, make()
        return self._known[1]

    @property
    def background_key(self) -> JSON:
        """What the general text depends on, as JSON: of the test rows, their texts alone."""
        held_out = digest(self.task.texts("test")) if "test" in self.task.tables else None
        return [self.corpus and self.corpus.fingerprint, held_out, asdict(self.screens)]


@dataclass(frozen=True)
class Ground:
    """What an arm's masker learns from, and where.

    Attributes:
        task: The sealed task.
        reading: The arm's tokenizer and documents.
        documents: What the arm reads, if it does.
        head: The warm gap-filling head, if the encoder needed one.
        origin: What the weights of a new encoder depend on, the head among it, as JSON.
        shared: What it shares with others.
    """

    task: Artifact
    reading: Artifact
    documents: Artifact | None
    head: WarmHead | None
    origin: JSON
    shared: Shared

    def know(self, spec: Spec, seed: int, max_length: int) -> Known:
        """What may be known, but for general text."""
        read = self.documents
        return what_is_known(
            spec,
            load_reading_tokenizer(self.reading.folder),
            load_saved_task(self.task.folder),
            Selection.load(read.folder, self.shared.corpus).texts() if read else [],
            seed=seed,
            head=self.head.folder if self.head else None,
            max_length=max_length,
        )


def fit_masker(store: Store, arm: Arm, ground: Ground, seed: int, reporter: Reporter) -> Artifact | None:
    """The artifact of an arm's masker, made or found; none where it needs to learn nothing.

    A masker whose class does not say ``seeded`` is the same for all seeds of arms that read the same.

    Args:
        store: Where it is kept.
        arm: Whose masker.
        ground: What it learns from.
        seed: The arm's seed.
        reporter: Who is told how it goes.

    Raises:
        ConfigError: it needs what the study has not, or became something that cannot be kept.
        TrainingError: what it learns from diverged.
    """
    masker = arm.recipe.masker
    if not isinstance(masker, Fits):
        return None
    longest = max(stage.max_length for stage in arm.recipe.stages)
    own = seed_of(masker, seed)
    seen = {
        "origin": ground.origin,
        "task": ground.task.key,
        "reading": ground.reading.key,
        "max_length": longest,
        "seed": own,
    }
    inputs = {
        **seen,
        "masker": spelled_masker(masker),
        "folders": _contents(masker),
        "background": ground.shared.background_key if compares(masker) else None,
    }
    resume = store.partial("masker", inputs)

    def write(folder: Path) -> None:
        known = ground.shared.known(seen, lambda: ground.know(arm.spec, own, longest))
        if compares(masker):
            known = replace(known, background=ground.shared.background)
        with while_doing("learning what to hide"), reporter.phase(f"learning what to hide for {arm.name}") as bar:
            ready = make_ready(masker, known, resume=resume, watch=bar)
        if not isinstance(ready, ScoredMasker):
            raise ConfigError(
                f"arms.{arm.name}.masker: expected that 'fit' of {type(masker).__name__} returns a ScoredMasker, which "
                f"can be kept for the workers, found {type(ready).__name__}. Give the unit scores to Draw.by."
            )
        ready.save(folder)

    made = store.make("masker", inputs, write)
    shutil.rmtree(resume, ignore_errors=True)
    return made


def _contents(masker: Fits) -> dict[str, str]:
    """What is in the folders that a masker's keys name: one that was trained elsewhere is kept in one."""
    keys: Any = fields(masker) if is_dataclass(masker) else ()
    named = {key.name: getattr(masker, key.name) for key in keys}
    return {name: content(value) for name, value in named.items() if isinstance(value, Path) and value.is_dir()}
