"""The study file: pydantic models of the YAML, overrides from the command line, and errors that name the key.

What a *strategy's* keys are (a selector, a masker, an encoder, a stage) is said by its frozen dataclass in its own
room; ``build`` makes one from a mapping with the same care. An unknown key is an error with a suggestion.
"""

import dataclasses
import difflib
import importlib
import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from trivium.core import Split, Stream
from trivium.errors import ConfigError

T = TypeVar("T")
Options = dict[str, Any]
_FIRST_SEEDS = 3  # that a study which adds seeds begins with at least


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskConfig(_Strict):
    """The labelled task."""

    path: str | dict[str, str] = Field(
        description="A folder with train, dev and test files, one file, a mapping of split to file, or hub:owner/name."
    )
    preset: str | None = Field(
        None,
        description="A data set known by name, which says what is not said here: cola, mrpc, …, squad, swag.",
    )
    kind: str | None = Field(
        None,
        description="What kind of task it is: classify (if neither this nor a preset says otherwise), multilabel, "
        "regress, rank, tag or span.",
    )
    metric: str | None = Field(
        None, description="The metric that the verdict is about; the preset's or the kind's own, if not given."
    )
    name: str | None = Field(
        None, description="How it is called; the name of the preset, file or folder, if not given."
    )
    columns: dict[str, str | int | list[str | int]] | None = Field(
        None,
        description="Our name to the file's: {text: abstract, label: topic}; guessed where the names are usual. "
        "A number is a position from 0, and a list several columns: {choices: [a, b, c]}.",
    )
    labels: list[str] | None = Field(None, description="The label names, if the data should not be asked for them.")
    rows: Annotated[int, Field(ge=1)] | dict[Split, Annotated[int, Field(ge=1)]] | None = Field(
        None,
        description="About how many training rows to keep at most, stratified by label; or {split: how many}.",
    )


class CorpusConfig(_Strict):
    """The pile of text."""

    path: str | list[str] = Field(description="A file or a glob, or several; .txt, .csv, .tsv, .jsonl, .parquet, …")
    columns: dict[str, str] | None = Field(None, description="Our name to the file's: {text: body, source: site}.")
    window: int = Field(128, ge=16, description="Longer documents are cut into windows of so many words.")


class ArmConfig(_Strict):
    """One way to train; arms are what a study compares."""

    documents: Options | None = Field(
        None,
        description="What to read: {kind: bm25 | dsir | dense | hybrid | random | none | module:Class, and its keys}.",
    )
    masker: Options | None = Field(
        None,
        description="What to hide: {kind: random | whole_word | span | … | module:Class, and its keys}.",
    )
    auxiliary: Options | None = Field(
        None,
        description="What to learn beside, of the study's auxiliary tasks: {kind: gradts | all | random | … | "
        "module:Class, and its keys}. All of them, if not given and a stage learns some.",
    )
    stages: list[Options] = Field(
        description="How to train: {preset: finetune | adapt | tapt | tlm-joint | multitask, and keys to change}, or "
        "all keys of a stage.",
        min_length=1,
    )
    without: list[Stream] = Field(
        [], description="Streams that its stages leave out of their mix; a stage that has no other is left out too."
    )
    encoder: Options | str | None = Field(None, description="Another encoder than the study's.")


class GridConfig(_Strict):
    """All combinations of some choices, an arm each, called after its levels: `bm25+nmg`.

    A level is a name and what is chosen there; null chooses nothing, and the stages of such an arm leave that stream
    out. What has one level is the same for all.
    """

    documents: dict[str, Options | None] = Field({}, description="Levels of what is read.")
    masker: dict[str, Options | None] = Field({}, description="Levels of what is hidden.")
    auxiliary: dict[str, Options | None] = Field({}, description="Levels of what is learned beside.")
    encoder: dict[str, Options | str] = Field({}, description="Levels of the encoder.")
    stages: list[Options] | dict[str, list[Options]] = Field(
        description="How to train: stages for all, or levels of them.", min_length=1
    )

    @property
    def factors(self) -> dict[str, tuple[str, ...]]:
        """What has several levels, and their names."""
        return {name: tuple(levels) for name, levels in self._levels().items() if len(levels) > 1}

    def cells(self) -> dict[str, tuple[dict[str, str], ArmConfig]]:
        """Every combination by its arm's name: the level of each factor, and the arm."""
        levels = self._levels()
        found = {}
        for names in product(*levels.values()):
            chosen = dict(zip(levels, names, strict=True))
            keys = {factor: levels[factor][name] for factor, name in chosen.items()}
            left_out = [stream for stream in _CHOSEN_STREAMS if stream in keys and keys[stream] is None]
            several = {factor: name for factor, name in chosen.items() if factor in self.factors}
            found["+".join(several.values()) or "grid"] = several, ArmConfig(**keys, without=left_out)
        return found

    def _levels(self) -> dict[str, dict[str, Any]]:
        given = {name: getattr(self, name) for name in type(self).model_fields}
        if isinstance(self.stages, list):
            given["stages"] = {"": self.stages}
        return {name: levels for name, levels in given.items() if levels}


_CHOSEN_STREAMS: tuple[Stream, ...] = ("documents", "auxiliary")


class AdaptiveConfig(_Strict):
    """More seeds, a few at a time, until every question is decided."""

    step: int = Field(3, ge=1, description="Seeds that are added at a time.")
    most: int = Field(12, ge=3, le=1000, description="Seeds at most.")


class EngineConfig(_Strict):
    """Where the work is done."""

    kind: Literal["local", "ray"] = Field(
        "local",
        description="This machine, or a Ray cluster (extra `ray`), which searches the corpus; training stays here.",
    )
    workers: int | None = Field(
        None, ge=1, description="Processes that train; not given: one for every core up to four, or one on a GPU."
    )
    address: str | None = Field(
        "auto", description="Of the cluster's head; `auto`: the one this machine belongs to; null: one is started here."
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        """``engine: local`` is short for ``{kind: local}``."""
        return {"kind": given} if isinstance(given, str) else given


class StudyConfig(_Strict):
    """A study: arms that differ in what they read, hide or learn, each trained with several seeds."""

    name: str = Field(description="Name of the run folder.", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    task: TaskConfig
    auxiliary_tasks: list[TaskConfig] = Field(
        [], description="Other labelled tasks, with the keys of a task, of any kind, that may be learned beside it."
    )
    corpus: CorpusConfig | str | list[str] | None = Field(
        None, description="The pile of text: a file, a glob, several of them, or a mapping with the keys of a corpus."
    )
    screens: Options = Field(
        {},
        description="What no arm may read: {duplicates, near_duplicates, contamination}, all on; for all arms alike.",
    )
    encoder: Options | str = Field(
        {"scratch": "mini"},
        description="{scratch: tiny | mini | small | base | large} or {pretrained: folder, hub name or minilm}; "
        "a name alone is short for either.",
    )
    seeds: Annotated[int, Field(ge=1, le=1000)] | list[int] = Field(3, description="How many seeds, or which.")
    adaptive: AdaptiveConfig | bool = Field(
        False,
        description="Whether seeds are added until every question is decided, with levels that allow for looking more "
        "than once; `true`, or its keys.",
    )
    arms: dict[str, ArmConfig] = Field({}, description="The arms by name; needed, if there is no grid.")
    grid: GridConfig | None = Field(
        None, description="Arms for all combinations of some choices, with main effects and interactions."
    )
    baseline: str = Field(
        "finetune", description="The arm that the others are measured against; of a grid, the first if not given."
    )
    linear: bool = Field(True, description="Whether TF-IDF with logistic regression stands beside the arms.")
    equal: Literal["updates", "tokens", "flops", "nothing"] = Field(
        "updates",
        description="What every arm may spend alike: `updates` of the weights; `tokens` read, padding not counted; "
        "`flops`, floating-point operations of training; or `nothing`. The last stage of an arm that spends less is "
        "lengthened.",
    )
    budget: str | None = Field(
        None,
        description="The time that the study may take, such as 90s, 30m or 2h: as many seeds (three if it can be) and "
        "as large a part of every stage's updates or epochs as fit. Decided once for a run folder.",
    )
    engine: EngineConfig = EngineConfig()

    @field_validator("budget")
    @classmethod
    def _a_time(cls, given: str | None) -> str | None:
        if given is not None and not re.fullmatch(r"\d+(\.\d+)?[smh]", given):
            raise PydanticCustomError("budget", "expected a time such as 90s, 30m or 2h")
        return given

    @property
    def budget_seconds(self) -> float | None:
        """The time that the study may take, if that is limited."""
        if self.budget is None:
            return None
        return float(self.budget[:-1]) * {"s": 1, "m": 60, "h": 3600}[self.budget[-1]]

    @property
    def seed_list(self) -> list[int]:
        """The seeds one by one."""
        return list(range(self.seeds)) if isinstance(self.seeds, int) else list(self.seeds)

    @property
    def most_seeds(self) -> list[int]:
        """The seeds one by one, with those that may be added."""
        adaptive = self.adaptive_config
        return self.seeds_up_to(len(self.seed_list) if adaptive is None else adaptive.most)

    def seeds_up_to(self, many: int) -> list[int]:
        """The seeds that the study file names, and after the largest as many as are needed.

        >>> StudyConfig(name="s", task={"path": "t"}, seeds=[3, 1]).seeds_up_to(4)
        [3, 1, 4, 5]
        """
        given = self.seed_list
        return [*given, *range(max(given) + 1, max(given) + 1 + many - len(given))]

    @property
    def adaptive_config(self) -> AdaptiveConfig | None:
        """How seeds are added, if they are."""
        return (AdaptiveConfig() if self.adaptive else None) if isinstance(self.adaptive, bool) else self.adaptive

    @property
    def corpus_config(self) -> CorpusConfig | None:
        """The corpus in its long form."""
        if isinstance(self.corpus, str | list):
            return CorpusConfig(path=self.corpus)
        return self.corpus


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> StudyConfig:
    """Read a study file.

    Args:
        path: The YAML file. Relative paths in it are relative to where trivium is run.
        overrides: ``key=value`` pairs that win over the file; dots go down: ``arms.tlm.documents.max_tokens=1000000``.

    Raises:
        ConfigError: the file is no study file; the message names the key.
    """
    path = Path(path)
    try:
        raw = _NoDuplicates(path.read_text(encoding="utf-8-sig")).get_single_data()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such study file. `trivium new DATA -o {path}` writes one.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: expected a YAML file, found: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected keys such as 'name', 'task' and 'arms', found {type(raw).__name__}.")
    for override in overrides:
        raw = _override(raw, override)
    return parse_config(raw, str(path))


class _NoDuplicates(yaml.SafeLoader):
    """Refuses a key that stands twice: plain YAML would drop the first, for example a whole arm, without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.YAMLError(f"the key '{key.value}' a second time in line {key.start_mark.line + 1}")
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def parse_config(raw: Mapping[str, Any], where: str) -> StudyConfig:
    """Check a mapping and make a study of it."""
    try:
        config = StudyConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_explain(error, StudyConfig, where)) from None
    config = _with_grid(config)
    if not config.arms:
        raise ConfigError(f"{where}, arms: expected one or more arms, or a grid; found neither.")
    if config.baseline not in config.arms:
        raise ConfigError(
            f"{where}, baseline: expected one of the arms ({', '.join(config.arms)}), found '{config.baseline}'."
        )
    if "linear" in config.arms:
        raise ConfigError(f"{where}, arms: the name 'linear' is taken by TF-IDF with logistic regression; use another.")
    bad = [name for name in config.arms if not name or "/" in name or name.startswith(".")]
    if bad:
        raise ConfigError(f"{where}, arms: an arm's name becomes a folder's, so it cannot be '{bad[0]}'.")
    if not config.seed_list or len(set(config.seed_list)) < len(config.seed_list):
        raise ConfigError(f"{where}, seeds: expected one or more different numbers, found {config.seeds}.")
    if config.adaptive and len(config.seed_list) < _FIRST_SEEDS:
        raise ConfigError(
            f"{where}, adaptive: expected at least {_FIRST_SEEDS} seeds to begin with, found {len(config.seed_list)}; "
            "fewer say nothing of how far chance moves a score. Set seeds: 3."
        )
    return config


def _with_grid(config: StudyConfig) -> StudyConfig:
    """The study with an arm for every cell of its grid, but for those that are written out among the arms."""
    if config.grid is None:
        return config
    cells = {name: arm for name, (_, arm) in config.grid.cells().items()}
    given = "baseline" in config.model_fields_set
    baseline = config.baseline if given or "finetune" in config.arms else next(iter(cells))
    return config.model_copy(update={"arms": {**cells, **config.arms}, "baseline": baseline})


def build(cls: type[T], options: Mapping[str, Any], where: str) -> T:
    """Make a strategy from its keys.

    Args:
        cls: A frozen dataclass: its fields are the keys.
        options: The keys that are given.
        where: What to call the place in an error, for example ``arms.tlm.documents``.

    Raises:
        ConfigError: a key is unknown, missing, or of the wrong type.
    """
    if not (isinstance(cls, type) and dataclasses.is_dataclass(cls)):
        raise ConfigError(f"{where}: expected a dataclass, whose fields are its keys; found {cls!r}.")
    known = [field.name for field in dataclasses.fields(cls)]
    for key in options:
        if key not in known:
            raise ConfigError(f"{where}: unknown key '{key}'{_suggest(key, known)}")
    try:
        return TypeAdapter(cls).validate_python(dict(options))
    except ValidationError as error:
        raise ConfigError(_explain(error, None, where)) from None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def choose(kinds: Mapping[str, type[T]], options: Mapping[str, Any], where: str) -> T:
    """Make the strategy that ``kind`` names: one of ours, or ``"module:Class"`` of the user's.

    Raises:
        ConfigError: no such kind, or its keys are wrong.
    """
    rest = dict(options)
    kind = rest.pop("kind", None)
    if not isinstance(kind, str):
        raise ConfigError(f"{where}: expected 'kind', one of {', '.join(kinds)} or \"module:Class\".")
    if kind in kinds:
        return build(kinds[kind], rest, where)
    module, colon, name = kind.partition(":")
    if not colon or not module or module.startswith("."):
        raise ConfigError(f"{where}: unknown kind '{kind}'{_suggest(kind, list(kinds))} Your own is \"module:Class\".")
    try:
        cls: type[T] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{where}: cannot load '{kind}': {error}. Is the module on PYTHONPATH?") from None
    return build(cls, rest, where)


def _override(raw: dict[str, Any], override: str) -> dict[str, Any]:
    path, equals, value = override.partition("=")
    if not equals:
        raise ConfigError(f"'{override}': expected key=value, for example seeds=5.")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"'{override}': the value is no YAML.") from None
    changed: dict[str, Any] = _put(raw, path.split("."), parsed)
    return changed


def _put(place: Any, keys: Sequence[str], value: Any, path: str = "") -> Any:
    """A place with a value put into it; a copy, because with YAML's anchors one place can stand in many."""
    if not keys:
        return value
    if not isinstance(place, dict | list):
        raise ConfigError(f"'{path}': holds a plain value ({place!r}) in the study file and nothing below it.")
    key, *rest = keys
    path = f"{path}.{key}" if path else key
    if isinstance(place, list):
        at = _index(place, key, path)
        return [*place[:at], _put(place[at], rest, value, path), *place[at + 1 :]]
    return {**place, key: _put(place.get(key, {}), rest, value, path)}


def _index(place: list[Any], key: str, path: str) -> int:
    if not key.isdecimal() or int(key) >= len(place):
        raise ConfigError(f"'{path}': expected a number from 0 to {len(place) - 1}, found '{key}'.")
    return int(key)


def _suggest(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key, known, 1)
    return f"; did you mean '{close[0]}'?" if close else f"; known are {', '.join(known) or 'none'}."


def _explain(error: ValidationError, model: type[BaseModel] | None, where: str) -> str:
    """One line for each place that is wrong."""
    told: dict[tuple[str, ...], list[str]] = {}
    for problem in error.errors():
        place = tuple(str(part) for part in problem["loc"] if not _is_branch(part))
        if problem["type"] == "extra_forbidden":
            text = f"unknown key{_suggest(str(problem['loc'][-1]), _keys(model, problem['loc'][:-1]))}"
        elif problem["type"] in ("missing", "missing_argument"):
            text = "this key is missing"
        else:
            expected = re.sub("a valid dictionary( or instance of .*)?", "a mapping", problem["msg"])
            text = f"{expected.replace('Input should be', 'expected')}, found {problem['input']!r}"
        told.setdefault(place, []).append(text)
    # of a union, each branch complains; those that got further down are the ones that were meant
    meant = [place for place in told if not any(other != place == other[: len(place)] for other in told)]
    return "\n".join(
        f"{', '.join(filter(None, [where, '.'.join(place)]))}: {'; or '.join(told[place])}" for place in meant
    )


def _is_branch(part: Any) -> bool:
    """Pydantic puts the branch of a union into the place; a reader of YAML knows no branches."""
    return isinstance(part, str) and (part in {"str", "int", "constrained-int", "CorpusConfig"} or "[" in part)


def _keys(model: type[BaseModel] | None, place: Sequence[Any]) -> list[str]:
    """The keys of the model at a place."""
    for part in place:
        field = None if model is None else model.model_fields.get(str(part))
        if field is None:
            continue
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), model)
    return list(model.model_fields) if model is not None else []
