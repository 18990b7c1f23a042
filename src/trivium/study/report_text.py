"""How the report says numbers and names, the same in HTML and in Markdown.

Scores are fractions in files and points (times 100) on paper. What is missing is a dash, never a zero.
"""

import math
import re
from collections.abc import Sequence

from markupsafe import Markup, escape

from trivium.core import JSON
from trivium.data.words import WORD

NOTHING = "–"
METRICS = {
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "weighted_f1": "weighted-F1",
    "samples_f1": "F1 per row",
    "f1": "F1",
    "mcc": "MCC",
    "exact_match": "exact match",
    "pearson": "Pearson's r",
    "spearman": "Spearman's ρ",
    "pearson_spearman": "mean of r and ρ",
    "r2": "R²",
    "mrr": "MRR",
    "entity_f1": "entity F1",
    "entity_macro_f1": "entity macro-F1",
    "token_macro_f1": "token macro-F1",
    "f1_answerable": "F1, answerable",
    "recall_unanswerable": "recall, unanswerable",
}


def metric_name(metric: str) -> str:
    """A metric as people write it.

    >>> metric_name("macro_f1"), metric_name("pearson"), metric_name("entity_recall")
    ('macro-F1', "Pearson's r", 'entity recall')
    """
    return METRICS.get(metric, metric.replace("_", " "))


def number(value: JSON) -> float | None:
    """A finite number, or None for anything else that may stand in its place."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def points(value: JSON) -> str:
    """A fraction in points.

    >>> points(0.6121), points(-0.02), points(None)
    ('61.2', '−2.0', '–')
    """
    found = number(value)
    return NOTHING if found is None else _minus(f"{100 * found:.1f}")


def signed(value: JSON) -> str:
    """A difference of fractions in points, with its sign.

    >>> signed(0.05), signed(-0.021), signed(0.0001)
    ('+5.0', '−2.1', '0.0')
    """
    found = number(value)
    return NOTHING if found is None else _minus(f"{100 * found:+.1f}").replace("+0.0", "0.0")


def _minus(said: str) -> str:
    """With the sign that is as wide as a plus, and without one before a zero."""
    return "0.0" if said == "-0.0" else said.replace("-", "−")


def interval(low: JSON, high: JSON) -> str:
    """Two ends in points.

    >>> interval(-0.02, 0.08)
    '[−2.0, 8.0]'
    """
    return NOTHING if number(low) is None or number(high) is None else f"[{points(low)}, {points(high)}]"


def spread(mean: JSON, sd: JSON) -> str:
    """A mean with its standard deviation over seeds, in points.

    >>> spread(0.61, 0.012), spread(0.61, None)
    ('61.0 ± 1.2', '61.0')
    """
    return points(mean) if number(sd) is None or number(mean) is None else f"{points(mean)} ± {points(sd)}"


def probability(value: JSON) -> str:
    """A p-value; a small one is a bound.

    >>> probability(0.034), probability(0.00001)
    ('0.034', '< 0.001')
    """
    found = number(value)
    if found is None:
        return NOTHING
    return "< 0.001" if found < 0.001 else f"{found:.3f}"


def count(value: JSON) -> str:
    """A whole number; from a million on, in millions.

    >>> count(1200), count(2_149_000)
    ('1,200', '2.1 M')
    """
    found = number(value)
    if found is None:
        return NOTHING
    return f"{found / 1e6:,.1f} M" if found >= 1e6 else f"{found:,.0f}"


def operations(value: JSON) -> str:
    """Floating-point operations.

    >>> operations(1.234e15), operations(None)
    ('1.2e+15', '–')
    """
    found = number(value)
    return NOTHING if found is None else f"{found:.1e}"


def nearness(value: JSON) -> str:
    """A KL reduction in nats, with its sign.

    >>> nearness(0.0973), nearness(-0.01), nearness(None)
    ('+0.097', '−0.010', '–')
    """
    found = number(value)
    return NOTHING if found is None else f"{found:+.3f}".replace("-", "−")


def duration(seconds: JSON) -> str:
    """A time in the two largest units that matter.

    >>> duration(3.21), duration(310), duration(7500)
    ('3.2 s', '5 min 10 s', '2 h 5 min')
    """
    found = number(seconds)
    if found is None:
        return NOTHING
    if found < 59.95:
        return f"{found:.1f} s"
    minutes, rest = divmod(round(found), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def plural(many: int, noun: str) -> str:
    """A number and its noun.

    >>> plural(1, "seed"), plural(3, "seed")
    ('1 seed', '3 seeds')
    """
    return f"{many:,} {noun}" if many == 1 else f"{many:,} {noun}s"


def listed(names: Sequence[str], width: int = 36) -> str:
    """Names in a sentence.

    >>> listed(["a"]), listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    *first, last = (short(name, width) for name in names)
    return f"{', '.join(first)} and {last}" if first else last


def short(name: str, width: int = 36) -> str:
    """A name on one line; a long one loses its middle, because names often differ at their ends.

    >>> short("a-very-long-name-indeed-version-2", 17)
    'a-very-l…ersion-2'
    """
    line = " ".join(name.split())
    half = width // 2
    return line if len(line) <= width else f"{line[:half]}…{line[-(width - half - 1) :]}"


def clip(text: str, width: int) -> str:
    """The beginning of a text, ending in how much is left out."""
    return text if len(text) <= width else f"{text[:width].rstrip()} … [{len(text) - width:,} characters more]"


def marked(text: str, terms: Sequence[str]) -> Markup:
    """A text as HTML in which the words that are among the terms are marked, whatever their case.

    >>> marked("Fish & Chips, fishes", ["fish", "chips"])
    Markup('<mark>Fish</mark> &amp; <mark>Chips</mark>, fishes')
    """
    wanted = {term.lower() for term in terms}
    pieces = re.split(f"({WORD.pattern})", text)  # every other piece is a word, as retrieval understands it
    return Markup("").join(
        Markup("<mark>{}</mark>").format(piece) if i % 2 and piece.lower() in wanted else escape(piece)
        for i, piece in enumerate(pieces)
    )
