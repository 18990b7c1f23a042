"""From a docstring to a sentence or two of prose: no markup, no code, no lists, no names of libraries.

Rules of thumb for the dialects that docstrings are written in (reStructuredText, the sections of numpy and Google,
Markdown), good enough to make a task of. A parser of any of them is out of scope.
"""

import re

SHORTEST, ENOUGH, LONGEST = 12, 50, 80  # words

NAMES = ("numpy", "scipy", "sklearn", "scikit", "pandas", "matplotlib", "pyplot", "pylab", "sympy", "networkx",
         "torch", "transformers", "python", "huggingface", "mpl_")  # fmt: skip
ALIASES = frozenset(["np", "pd", "plt", "nx", "sp", "mpl", "hf", "HF"])  # NP is a class of problems
_NAMED = re.compile("|".join(NAMES), re.IGNORECASE)
_HUGGING = re.compile(r"[Hh]ugging[ -][Ff]ace|🤗")

_ROLE = re.compile(r":[\w:+.-]+:`([^`]*)`")
_LINK = re.compile(r"`([^`<]+)<[^`>]*>`_{0,2}|\[([^\]]+)\]\([^)\s]*\)")
_TICKS = re.compile(r"`(?<!``)(`?)(?![`\s])([^`\n]*[^`\s])`\1(?!`)_{0,2}")
_BRACKETS = re.compile(r"\[(`[^`\n]+`)\]")  # how Hugging Face refers to code
_EMPHASIS = re.compile(r"\*(?<![\w*]\*)\*?([^*\s](?:[^*\n]*[^*\s])?)\*{1,2}(?![\w*])")
_NOISE = re.compile(r"\[[^\]\s]{1,12}\]_|(?:https?|ftp)://[^\s>)]+|</?[A-Za-z][^<>]*>")
_BETWEEN = re.compile(r"(\W+)")

_RULE = re.compile(r"\s*([=\-~*^#+\"'])\1{2,}\s*$")
_ITEM = re.compile(r"([-*+•]|#\.|\(?\w{1,2}[.)])\s")
_SIGNATURE = re.compile(r"[\w.]+\s*\([^()]*(\([^()]*\)[^()]*)*\)(\s*(->|=|:).*)?$")
_SECTIONS = (
    r"args|arguments|(other |keyword |init )?param(eter)?s?|keyword (args|arguments)|inputs?|outputs?|shape|"
    r"returns?|return (value|type)s?|yields?|raises?|examples?( usage)?|usage|notes?|warnings?|warns|see also|"
    r"references?|attributes?|methods?|requirements?|todo|side effects"
)
_STOP = re.compile(
    rf"(?:{_SECTIONS})\s*(?::|$)|>>>|[:@]\w|```|\$ |\w[\w., *]*\s:\s|[`*]*\w+[`*]*\s*\(.*\)\s*:|[`*]*\w+[`*]*:\s",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.!?:])(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\ba\.k\.a\.)\s+(?=[^a-z\s])")
_DANGLING = frozenset((  # what a sentence goes on with after these was a list, a formula or a link
    "a", "an", "and", "are", "as", "at", "by", "for", "from", "in", "is", "of", "or", "see", "that", "the", "to",
    "with",
))  # fmt: skip
_LEGAL = re.compile(r"copyright|licen[sc]e|all rights reserved|warranty|permission is|spdx", re.IGNORECASE)
_HOLE = re.compile(r"%\(|%s|\{\w*\}|@\w+@")  # to be filled in by the library when it is imported
_WORD = re.compile(r"[A-Za-z]{2,}")
_GLUE = frozenset(
    ["a", "an", "and", "are", "as", "be", "by", "can", "for", "from", "if", "in", "is", "it", "of", "the", "to"]
)


def summary(docstring: str) -> str | None:
    r"""The first sentences of a docstring as plain prose without library names; None if there are too few.

    Args:
        docstring: As ``inspect.cleandoc`` leaves it.

    Returns:
        About 12 to 80 words in one line.

    >>> summary(
    ...     "Return a new :class:`~numpy.ndarray`, a copy of the one given.\n\nIt is on the same device.\n\n"
    ...     "Parameters\n----------\na : array\n    Is copied."
    ... )
    'Return a new ndarray, a copy of the one given. It is on the same device.'
    """
    kept: list[str] = []
    words = 0
    for sentence in _SENTENCE.split(plain(_prose(docstring))):
        length = len(sentence.split())
        last = sentence.rstrip(" .:,(").rpartition(" ")[2].lower()
        if last in _DANGLING or (kept and sentence.endswith(":")) or not _WORD.search(sentence):
            continue
        if kept and words + length > LONGEST:
            break
        kept.append(sentence)
        words += length
        if words >= ENOUGH:
            break
    text = " ".join(" ".join(kept).split()[:LONGEST])
    if text.endswith(":"):
        text = text.rstrip(" :") + "."
    return text if _is_english(text) and not _LEGAL.search(text) else None


def plain(text: str) -> str:
    """A text without markup and without names of libraries, in one line.

    >>> plain("See :func:`torch.nn.Linear <linear>`, ``np.dot`` and *scikit-learn* [1]_, which is NP-hard.")
    'See library.nn.Linear, library.dot and library, which is NP-hard.'
    """
    text = _ROLE.sub(lambda role: _shown(role[1]), text)
    text = _LINK.sub(lambda link: (link[1] or link[2]).strip(), _BRACKETS.sub(r"\1", text))
    text = _TICKS.sub(lambda code: _shown(code[2]), text).replace("`", "")
    text = _HUGGING.sub("library", _NOISE.sub("", _EMPHASIS.sub(r"\1", text)))
    text = " ".join("".join(map(_SCRUBBED.__getitem__, _BETWEEN.split(text))).split())
    text = text.replace(" .", ".").replace(" ,", ",").replace("library-learn", "library")
    while "library library" in text:
        text = text.replace("library library", "library")
    return text


class _Scrubbed(dict[str, str]):
    """Each word without names of libraries; filled as words turn up, since most turn up again."""

    def __missing__(self, word: str) -> str:
        clean = "library" if word in ALIASES or _NAMED.search(word) else word
        self[word] = clean
        return clean


_SCRUBBED = _Scrubbed()


def _shown(target: str) -> str:
    """What a reader of the rendered page sees of a reference."""
    target = target.partition(" <")[0].strip()
    return target.rpartition(".")[2] if target.startswith("~") else target.lstrip("!.")


def _prose(docstring: str) -> str:
    """The paragraphs before the first section, as far as they are needed."""
    kept: list[str] = []
    for block in re.split(r"\n\s*\n", docstring):
        lines, stopped = _sentences(block.splitlines())
        if lines:
            paragraph = " ".join(lines)
            kept.append(paragraph if paragraph.endswith((".", "!", "?", ":")) else paragraph + ".")
        if stopped or sum(len(text.split()) for text in kept) > LONGEST:
            break
    return " ".join(kept)


def _sentences(lines: list[str]) -> tuple[list[str], bool]:
    """The lines of a paragraph that are prose, and whether it, or a section in it, ends the prose."""
    while lines and _RULE.match(lines[0]):
        lines = lines[1:]
    if len(lines) > 1 and _RULE.match(lines[1]):  # a title, or the head of a section
        if _STOP.match(lines[0]):
            return [], True
        lines = lines[2:]
    if not lines or lines[0][:1].isspace() or lines[0].startswith(("..", "|", "::")) or _ITEM.match(lines[0]):
        return [], False  # code, a directive, a table, a list
    kept: list[str] = []
    for line in lines:
        if _STOP.match(line):
            return kept, True
        if _ITEM.match(line.lstrip()) or _RULE.match(line):
            return kept, False
        if not _SIGNATURE.match(line):
            kept.append(line.strip())
    return kept, False


def _is_english(text: str) -> bool:
    """Whether a text is a sentence or more of English prose and not a template."""
    found = _WORD.findall(text)
    if len(found) < SHORTEST or sum(word.lower() in _GLUE for word in found) < 2 or _HOLE.search(text):
        return False
    letters = sum(sign.isalpha() or sign.isspace() for sign in text)
    foreign = sum(not sign.isascii() for sign in text)
    return letters >= 0.85 * len(text) and foreign <= 0.02 * len(text)
