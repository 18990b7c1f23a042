"""What to read: choose documents of a corpus for a task.

A selector ranks; what one is stands in ``protocol``, and the built-in ones in ``bm25``, ``dsir``, ``dense``, ``hybrid``
and ``controls``. ``choose`` takes documents in the order of a ranking until the budget is spent, leaves out what
``screens`` say, and notes the reasons. Below BM25 lies a search engine: ``shards`` on disk, ``index``, ``queries`` and
``kernels``. A selector sees training texts only. Judging a document's quality on its own is out of scope. To add a
selector, write a frozen dataclass with ``seeded`` and ``rank`` anywhere and name it in the study file as
``documents: {kind: "my_module:MySelector"}``.
"""

from trivium.documents.bm25 import BM25
from trivium.documents.choose import examples, select_documents
from trivium.documents.controls import NoDocuments, RandomDocuments
from trivium.documents.dense import Dense
from trivium.documents.dsir import DSIR
from trivium.documents.hybrid import Hybrid
from trivium.documents.protocol import Budget, Ranking, Selector
from trivium.documents.screens import Screens
from trivium.documents.selectors import SELECTORS

__all__ = [
    "BM25",
    "DSIR",
    "SELECTORS",
    "Budget",
    "Dense",
    "Hybrid",
    "NoDocuments",
    "RandomDocuments",
    "Ranking",
    "Screens",
    "Selector",
    "examples",
    "select_documents",
]
