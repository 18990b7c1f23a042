"""Users' data: files or hub data sets in, a ``core.Task`` or a ``core.Corpus`` out, or an error that names the row.

``tasks`` loads labelled rows, ``corpora`` unlabelled documents, ``texts`` rows to be labelled; ``sniff`` tells which is
which. Below them: ``reading`` says what the reader of a kind does, and ``labels``, ``choices``, ``tags``, ``spans`` are
the readers; ``presets`` knows data sets by name; ``splits`` and ``columns`` decide what is what; ``files``, ``hub``,
``formats``, ``conll``, ``squad``, ``unquoted`` and ``lines`` read; ``place`` says where something is wrong; ``words``
and ``windows`` know what a word is and where a long document may be cut. Nothing here knows a model.
"""

from trivium.data.corpora import load_corpus
from trivium.data.sniff import Sniffed, sniff
from trivium.data.tasks import load_task
from trivium.data.texts import read_lines, read_texts
from trivium.data.windows import windows
from trivium.data.words import count_words, fingerprint64, normal, words

__all__ = [
    "Sniffed",
    "count_words",
    "fingerprint64",
    "load_corpus",
    "load_task",
    "normal",
    "read_lines",
    "read_texts",
    "sniff",
    "windows",
    "words",
]
