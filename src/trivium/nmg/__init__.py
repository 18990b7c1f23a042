"""What to hide, learned: a masking policy gets better by trying it in many small trainings (NMG, Kang et al. 2020).

Read ``settings.py`` for the choices, ``episodes.py`` for what is tried, ``credit.py`` for what is rewarded,
``learner.py`` for how a policy changes, and ``learn.py`` for the whole.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from trivium import masking
from trivium.config import choose
from trivium.core import Selection, Task
from trivium.encoders import Pretrained, Scratch
from trivium.errors import ConfigError
from trivium.masking.policy import PolicyMasker
from trivium.nmg.settings import NMG, PRESETS
from trivium.training.models import make_tokenizer, what_is_known
from trivium.training.recipes import spec_of

__all__ = ["MASKERS", "NMG", "PRESETS", "PolicyMasker", "learn_masker", "make_masker"]

MASKERS: Mapping[str, type[Any]] = {**masking.MASKERS, "nmg": NMG}


def make_masker(options: Mapping[str, Any], where: str = "masker") -> Any:
    """A masker from its keys in a study file; of ``nmg``, a ``preset`` and the keys to change.

    Raises:
        ConfigError: no such kind or preset, or a key is wrong.

    >>> make_masker({"kind": "nmg", "preset": "paper", "episodes": 10}).unit
    'token'
    """
    given = dict(options)
    if given.get("kind") == "nmg" and "preset" in given:
        name = given.pop("preset")
        if not isinstance(name, str) or name not in PRESETS:
            raise ConfigError(f"{where}: unknown preset '{name}'; known are {', '.join(PRESETS)}.")
        given = {**PRESETS[name](), **given}
    return choose(MASKERS, given, where)


def learn_masker(
    task: Task,
    settings: NMG | None = None,
    *,
    encoder: Scratch | Pretrained | str | None = None,
    documents: Selection | None = None,
    seed: int = 0,
    resume: Path | str | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> PolicyMasker:
    """Learn which words to hide for a task, by trying.

    Only training rows are looked at. Three parts are made of them: one to play episodes with, one that rewards, and one
    that says at the end, in fresh episodes, whether the policy is any better than hiding at random
    (``masker.verdict``).

    Args:
        task: The task; its dev and test splits are not looked at.
        settings: How; the preset ``modern`` if not given, ``NMG.paper()`` for the other.
        encoder: Whose small trainings are tried: as in ``train``.
        documents: What the encoder will read beside the task's texts: a selection that remembers its corpus.
        seed: Of everything random.
        resume: Folder to keep the state in now and then, and to go on from.
        watch: Told how many episodes are played and how many there are.

    Returns:
        A masker, for ``train(…, masker=…)`` or, with ``MaskingCollator``, for any trainer of transformers.

    Raises:
        DataError: there are too few training texts.
        ConfigError: the encoder cannot be loaded, or a setting is wrong.
    """
    settings = settings or NMG()
    spec, sealed = spec_of(encoder), task.sealed()
    texts = documents.texts() if documents is not None else []
    tokenizer = make_tokenizer(spec, sealed, texts)
    known = what_is_known(spec, tokenizer, sealed, texts, seed=seed, max_length=settings.max_length)
    return settings.fit(known, resume=None if resume is None else Path(resume), watch=watch)
