"""Writes docs/config.md from the models of the study file, so that the reference cannot say what the code does not do.

Run it with ``make docs``; a test fails while the page is stale.
"""

import dataclasses
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from trivium.auxiliary import SELECTORS as BESIDE
from trivium.auxiliary.protocol import Effort
from trivium.config import AdaptiveConfig, ArmConfig, CorpusConfig, EngineConfig, GridConfig, StudyConfig, TaskConfig
from trivium.core import Stage
from trivium.documents import SELECTORS
from trivium.documents.screens import Screens
from trivium.encoders.encoder import Pretrained, Scratch
from trivium.nmg import MASKERS
from trivium.nmg import PRESETS as NMG_PRESETS
from trivium.training.recipes import PRESETS, make_stage

PAGE = Path(__file__).with_name("config.md")
HEAD = """# The study file

One YAML file says what a study does. This page is written by `make docs` from the code that reads the file. A key that
is not named here is an error, and the message suggests the nearest one. `key=value` on the command line wins over the
file; dots go down: `trivium run study.yaml seeds=5 arms.tlm.documents.per_query=100`.

A *strategy* (documents, masker, auxiliary) is a mapping with a `kind`: a name from the tables below, or
`"module:Class"` for a frozen dataclass of your own, whose fields become its keys ([extending.md](extending.md)).
"""

_NMG = f"Of `nmg`, a `preset` ({', '.join(NMG_PRESETS)}) gives every key a value; keys that are written beside it win."


_GRID = (
    "All combinations of some choices, an arm each, called after its levels: `bm25+nmg`. A level is a name and what is "
    "chosen there; null chooses nothing, and the stages of such an arm leave that stream out. What has one level is "
    "the same for all. An arm of the same name among `arms` wins."
)
_EFFORT = "Those that rank also have the keys of the next section, which say how much choosing may spend."
_SPENT = frozenset(field.name for field in dataclasses.fields(Effort))


def render() -> str:
    """The page."""
    parts = [HEAD]
    parts += [_model("The study", "", StudyConfig), _model("`task`", "", TaskConfig)]
    parts += [_model("`corpus`", "A path alone is short for `{path: …}`.", CorpusConfig)]
    parts += [_strategies("`screens`", "", {"": Screens})]
    parts += [_strategies("`encoder`", "", {"from scratch": Scratch, "pretrained": Pretrained})]
    parts += [_model("`arms.<name>`", "", ArmConfig)]
    parts += [_strategies("`arms.<name>.documents`", "", SELECTORS), _strategies("`arms.<name>.masker`", _NMG, MASKERS)]
    parts += [_strategies("`arms.<name>.auxiliary`", _EFFORT, BESIDE, but=_SPENT)]
    parts += [_strategies("What choosing auxiliary tasks may spend", "Keys of all of them.", {"": Effort})]
    parts += [
        _strategies(
            "`arms.<name>.stages`", "A list; each entry is a preset with keys to change, or all keys.", {"": Stage}
        )
    ]
    parts += [_presets(), _model("`grid`", _GRID, GridConfig)]
    parts += [_model("`adaptive`", "", AdaptiveConfig), _model("`engine`", "", EngineConfig)]
    return "\n".join(parts)


def _model(title: str, note: str, model: type[BaseModel]) -> str:
    rows = []
    for name, field in model.model_fields.items():
        default = "(needed)" if field.is_required() else _value(field.get_default(call_default_factory=True))
        rows.append((name, default, field.description or _first(field.annotation)))
    return _section(title, note or _first(model), rows)


def _strategies(title: str, note: str, kinds: Mapping[str, type[Any]], *, but: frozenset[str] = frozenset()) -> str:
    parts = [f"## {title}\n"] + ([note + "\n"] if note else [])
    for kind, cls in kinds.items():
        meaning = _attributes(cls)
        rows = [(f.name, _default(f), meaning[f.name]) for f in dataclasses.fields(cls) if f.name not in but]
        named = f"**{kind}**: " if kind else ""
        parts.append(f"{named}{_first(cls)}\n")
        if rows:
            parts.append(_table(rows))
    return "\n".join(parts)


def _presets() -> str:
    rows = []
    for name in PRESETS:
        for size in ("tiny", "mini", "small", "base", "large", None):
            spec = Scratch(size) if size else Pretrained("…")
            stage = make_stage({"preset": name}, spec, name)
            length = f"{stage.updates} updates" if stage.updates else f"{stage.epochs:g} epochs"
            rows.append(
                (name, size or "pretrained", f"{stage.lr:g}", length, _value(dict(stage.mix)), f"{stage.mlm_weight:g}")
            )
    head = "| preset | encoder | lr | length | mix | mlm_weight |\n|---|---|--:|--:|---|--:|\n"
    return (
        "## Presets\n\nWhat a preset sets, where it differs from the defaults above.\n\n"
        + head
        + "".join("| " + " | ".join(row) + " |\n" for row in rows)
    )


def _section(title: str, note: str, rows: list[tuple[str, str, str]]) -> str:
    return f"## {title}\n\n{note}\n\n{_table(rows)}"


def _table(rows: list[tuple[str, str, str]]) -> str:
    lines = [f"| `{key}` | {default} | {meaning.replace('|', chr(92) + '|')} |" for key, default, meaning in rows]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *lines, ""])


def _default(field: dataclasses.Field[Any]) -> str:
    return "(needed)" if field.default is dataclasses.MISSING else _value(field.default)


def _value(value: Any) -> str:
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if value is None:
        return "none"
    return f"`{yaml.safe_dump([value], default_flow_style=True).strip()[1:-1]}`"


def _first(cls: Any) -> str:
    """The first paragraph of a docstring."""
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split())


def _attributes(cls: type[Any]) -> dict[str, str]:
    """What the docstrings of a class and of those it builds on say of each attribute."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        text = inspect.cleandoc(base.__doc__ or "").partition("Attributes:\n")[2]
        found |= dict(re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", text, re.MULTILINE))
    return {name: " ".join(meaning.replace("``", "`").split()) for name, meaning in found.items()}


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
