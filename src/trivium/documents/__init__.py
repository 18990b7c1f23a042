"""What to read: choose documents of a corpus for a task.

A selector ranks (``selectors``; what one is stands in ``protocol``), ``choose`` screens, keeps to the budget and notes
the reasons; ``index`` and ``kernels`` are the search engine below BM25. A selector sees training texts only. Judging a
document's quality on its own is out of scope. To add a selector, write a frozen dataclass with ``seeded`` and
``rank`` anywhere and name it in the study file as ``documents: {kind: "my_module:MySelector"}``.
"""

from trivium.documents.choose import examples, select_documents
from trivium.documents.protocol import Budget, Ranking, Selector
from trivium.documents.selectors import BM25, SELECTORS, NoDocuments, RandomDocuments

__all__ = [
    "BM25",
    "SELECTORS",
    "Budget",
    "NoDocuments",
    "RandomDocuments",
    "Ranking",
    "Selector",
    "examples",
    "select_documents",
]
