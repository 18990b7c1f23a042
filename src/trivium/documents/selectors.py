"""The selectors by the names that they have in a study file."""

from collections.abc import Mapping

from trivium.documents.bm25 import BM25
from trivium.documents.controls import NoDocuments, RandomDocuments
from trivium.documents.dense import Dense
from trivium.documents.dsir import DSIR
from trivium.documents.hybrid import Hybrid
from trivium.documents.protocol import Selector

SELECTORS: Mapping[str, type[Selector]] = {
    "bm25": BM25,
    "dsir": DSIR,
    "dense": Dense,
    "hybrid": Hybrid,
    "random": RandomDocuments,
    "none": NoDocuments,
}
