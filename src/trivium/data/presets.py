"""Data sets by name: what kind of task each is, what it is judged by, and what its files look like.

Files may be as the data set is distributed, or in the hub's form, or have the usual columns. What somebody says beside
a preset wins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from trivium.core import Split
from trivium.data.formats import Format
from trivium.data.place import meant
from trivium.data.splits import Names
from trivium.data.unquoted import Unquoted
from trivium.errors import ConfigError


@dataclass(frozen=True)
class Preset:
    """What is known of a data set.

    Attributes:
        kind: A key of ``data.labels.KINDS``.
        metric: The one it is customarily judged by.
        labels: Names in the order of the hub's numbers, the second of two being the positive one where there is one;
            a number in a label column is an index into them. Empty: those of the training rows.
        columns: What its own distribution calls columns, where the usual names would not do; taken where they are
            there. A number is a position in a file without a header.
        files: What it calls its splits beside the usual names, the preferred first.
        formats: Formats that its files are in, by suffix.
    """

    kind: str
    metric: str
    labels: tuple[str, ...] = ()
    columns: Mapping[str, str | int] = field(default_factory=dict)
    files: Names = field(default_factory=dict)
    formats: Mapping[str, Format] = field(default_factory=dict)

    def columns_in(self, found: Sequence[str]) -> Mapping[str, str | int]:
        """Its columns that a file has; a position only where columns have no names."""
        numbered = tuple(found) == tuple(map(str, range(len(found))))
        return {
            role: column
            for role, column in self.columns.items()
            if (numbered and column < len(found) if isinstance(column, int) else column in found)
        }


_TSV: Mapping[str, Format] = {".tsv": Unquoted()}
_ENTAILMENT = ("entailment", "not_entailment")
_NLI = ("entailment", "neutral", "contradiction")


def _mnli(which: str) -> Preset:
    files: Mapping[Split, tuple[str, ...]] = {
        "dev": (f"dev_{which}", f"validation_{which}"),
        "test": (f"test_{which}",),
    }
    return Preset("classify", "accuracy", _NLI, {"label": "gold_label"}, files, _TSV)


_COLA = Preset(
    "classify",
    "mcc",
    ("unacceptable", "acceptable"),
    {"text": 3, "label": 1},
    {"train": ("train", "in_domain_train"), "dev": ("dev", "in_domain_dev")},
    {".tsv": Unquoted(header=("sentence", "text", "label"))},
)
_MRPC = Preset(
    "classify",
    "f1",
    ("not_equivalent", "equivalent"),
    {"text": "#1 String", "text_pair": "#2 String", "label": "Quality"},
    {"train": ("train", "msr_paraphrase_train"), "test": ("msr_paraphrase_test", "test")},
    {".tsv": Unquoted(), ".txt": Unquoted()},
)
_HELPFULNESS = Preset("classify", "macro_f1")
_SQUAD = Preset("span", "f1", files={"train": ("train-v1.1", "train"), "dev": ("dev-v1.1", "dev")})
_SQUAD_V2 = Preset("span", "f1", files={"train": ("train-v2.0", "train"), "dev": ("dev-v2.0", "dev")})

PRESETS: Mapping[str, Preset] = {
    # GLUE (Wang et al. 2019)
    "cola": _COLA,
    "sst2": Preset("classify", "accuracy", ("negative", "positive"), formats=_TSV),
    "mrpc": _MRPC,
    "stsb": Preset("regress", "pearson", formats=_TSV),
    "qqp": Preset("classify", "f1", ("not_duplicate", "duplicate"), {"label": "is_duplicate"}, formats=_TSV),
    "mnli": _mnli("matched"),
    "mnli-mm": _mnli("mismatched"),
    "qnli": Preset("classify", "accuracy", _ENTAILMENT, formats=_TSV),
    "rte": Preset("classify", "accuracy", _ENTAILMENT, formats=_TSV),
    "wnli": Preset("classify", "accuracy", ("not_entailment", "entailment"), formats=_TSV),
    # the eight tasks of TLM (Yao et al. 2022), in the files of Gururangan et al. 2020
    "chemprot": Preset("classify", "micro_f1"),
    "rct-20k": Preset("classify", "micro_f1"),
    "sciie": Preset("classify", "macro_f1"),
    "citation_intent": Preset("classify", "macro_f1"),
    "hyperpartisan": Preset("classify", "macro_f1"),
    "ag": Preset("classify", "macro_f1"),
    "amazon": _HELPFULNESS,
    "helpfulness": _HELPFULNESS,
    "imdb": Preset("classify", "macro_f1"),
    # question answering and multiple choice
    "squad": _SQUAD,
    "squad_v2": _SQUAD_V2,
    "swag": Preset("rank", "accuracy"),
}


def preset_of(name: str) -> Preset:
    """The preset of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in PRESETS:
        raise ConfigError(
            f"task.preset: unknown preset '{name}'. {meant(name, PRESETS)}Known are {', '.join(PRESETS)}."
        )
    return PRESETS[name]
