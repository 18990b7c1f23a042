"""Task-driven adaptation of language models: what to read, what to hide, what to learn beside, and whether it helped.

>>> import trivium as tv
>>> tv.BM25(per_query=50).per_query
50

Names are loaded when they are first used, so that ``import trivium`` is quick and does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trivium.auxiliary import GradTS, head_importance, select_auxiliary
    from trivium.core import Corpus, Queries, Score, Selection, Stage, Task
    from trivium.data import load_corpus, load_task
    from trivium.documents import BM25, DSIR, Dense, Hybrid, NoDocuments, RandomDocuments, Screens, select_documents
    from trivium.errors import ArtifactError, ConfigError, DataError, LeakError, TrainingError, TriviumError
    from trivium.masking import MaskingCollator, RandomTokens, ScoredMasker, Spans, WholeWord, corrupt
    from trivium.nmg import NMG, PolicyMasker, learn_masker
    from trivium.study.runner import Study, run
    from trivium.study.verdict import Verdict
    from trivium.training import Encoder, Pretrained, Recipe, Scratch, evaluate, recipes, train

__version__ = "0.1.0"

_HOMES = {
    "trivium.auxiliary": ("GradTS", "head_importance", "select_auxiliary"),
    "trivium.core": ("Corpus", "Queries", "Score", "Selection", "Stage", "Task"),
    "trivium.data": ("load_corpus", "load_task"),
    "trivium.documents": (
        "BM25",
        "DSIR",
        "Dense",
        "Hybrid",
        "NoDocuments",
        "RandomDocuments",
        "Screens",
        "select_documents",
    ),
    "trivium.errors": ("ArtifactError", "ConfigError", "DataError", "LeakError", "TrainingError", "TriviumError"),
    "trivium.masking": ("MaskingCollator", "RandomTokens", "ScoredMasker", "Spans", "WholeWord", "corrupt"),
    "trivium.nmg": ("NMG", "PolicyMasker", "learn_masker"),
    "trivium.study.runner": ("Study", "run"),
    "trivium.study.verdict": ("Verdict",),
    "trivium.training": ("Encoder", "Pretrained", "Recipe", "Scratch", "evaluate", "recipes", "train"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 - in the order of the rooms
    "Corpus", "Queries", "Score", "Selection", "Stage", "Task",
    "load_corpus", "load_task",
    "BM25", "DSIR", "Dense", "Hybrid", "NoDocuments", "RandomDocuments", "Screens", "select_documents",
    "ArtifactError", "ConfigError", "DataError", "LeakError", "TrainingError", "TriviumError",
    "MaskingCollator", "RandomTokens", "ScoredMasker", "Spans", "WholeWord", "corrupt",
    "NMG", "PolicyMasker", "learn_masker",
    "GradTS", "head_importance", "select_auxiliary",
    "Encoder", "Pretrained", "Recipe", "Scratch", "evaluate", "recipes", "train",
    "Study", "Verdict", "run",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'trivium' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
