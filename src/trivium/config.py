"""The study file: pydantic models of the YAML, overrides from the command line, and errors that name the key.

What a *strategy's* keys are (a selector, a masker, an encoder, a stage) is said by its frozen dataclass in its own
room; ``build`` makes one from a mapping with the same care. An unknown key is an error with a suggestion.
"""

import dataclasses
import difflib
import importlib
import math
import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from trivium.core import Split, Stream
from trivium.errors import ConfigError

T = TypeVar("T")
Options = dict[str, Any]
_FIRST_SEEDS = 3  # that a study which adds seeds begins with at least
_LARGEST = 1 << 18  # bytes of a study file, aliases written out: a thousand arms, and read within seconds
_DEEPEST = 32  # levels of a study file, and keys of an override
_LONGEST_NAME = 200  # characters of what becomes a folder
_MOST_ARMS = 1000  # of a grid
_MOST_TOLD = 50  # mistakes
_SHOWN = 200  # characters of a value in a message
_WHOLE = 1 << 63  # what no library below counts to


_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_TOO_DEEP = f"values in values, more than {_DEEPEST} levels of them; take brackets out"
_OTHERWISE = re.compile(r"[-+]?0[0-9_]+|[^.]*:.*")  # 010 is 8 to YAML, and 1:30 is 90
_TRUTHS = "YAML reads yes, no, on and off as true and false: if it is a name, put quotes around it"


def _misread(value: Any, annotation: Any) -> bool:
    """Whether a truth value, which Python counts as 1 or 0, stands where a number is meant and no truth value is."""
    if isinstance(value, list | tuple):
        return any(_misread(one, annotation) for one in value)
    if isinstance(value, dict) and not any(
        isinstance(kind, type) and issubclass(kind, BaseModel) for kind in _kinds(annotation)
    ):
        return any(_misread(one, annotation) for one in value.values())
    kinds = _kinds(annotation)
    return isinstance(value, bool) and not kinds.isdisjoint({int, float}) and kinds.isdisjoint({bool, Any})


def _kinds(annotation: Any) -> set[Any]:
    """The plain types that an annotation is made of."""
    inner = get_args(annotation)[: 1 if get_origin(annotation) is Annotated else None]
    if inner:
        return set().union(*(_kinds(one) for one in inner))
    return {annotation} if isinstance(annotation, type) or annotation is Any else set()


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_misread(cls, given: Any, info: ValidationInfo) -> Any:
        if _misread(given, cls.model_fields[str(info.field_name)].annotation):
            raise PydanticCustomError("number", "expected no truth value")
        return given


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
        'regress, rank, tag or span; or "module:Class", one of these that learns, or is judged, in your way.',
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
    window: int = Field(128, ge=16, le=1_000_000, description="Longer documents are cut into windows of so many words.")


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

    @property
    def size(self) -> int:
        """How many arms it has."""
        return math.prod(map(len, self._levels().values()))

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

    step: int = Field(3, ge=1, le=1000, description="Seeds that are added at a time.")
    most: int = Field(12, ge=3, le=1000, description="Seeds at most.")


class EngineConfig(_Strict):
    """Where the work is done."""

    kind: Literal["local", "ray"] = Field(
        "local",
        description="This machine, or a Ray cluster (extra `ray`), which searches the corpus; training stays here.",
    )
    workers: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Processes that train; not given: one for every core up to four, or one on a GPU.",
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

    name: str = Field(
        description="Name of the run folder.", max_length=_LONGEST_NAME, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
    )
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
        if given is not None and not re.fullmatch(r"(?=.*[1-9])\d{1,9}(\.\d+)?[smh]", given):
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
        if path.stat().st_size > _LARGEST:
            raise yaml.YAMLError(f"{path.stat().st_size:,} bytes; a study file has at most {_LARGEST:,}")
        raw = _read_yaml(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such study file. `trivium new DATA -o {path}` writes one.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected a YAML file in UTF-8, found: {error}. Save it as UTF-8.") from None
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: a path with a NUL in it
        raise ConfigError(f"{path}: expected a YAML file, found: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: expected keys such as 'name', 'task' and 'arms', found {type(raw).__name__}.")
    for override in overrides:
        raw = _override(raw, override)
    return parse_config(raw, str(path))


def _read_yaml(text: str) -> Any:
    """What a YAML text says; raises a ``yaml.YAMLError`` that names the line, whatever is wrong with it."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        size, depth = _extent(node, {})
        if size > _LARGEST:
            raise yaml.YAMLError("aliases that make more of it than a study file may hold; write out what is meant")
        if depth > _DEEPEST:
            raise yaml.YAMLError(_TOO_DEEP)
        return loader.construct_document(node)
    except RecursionError:
        raise yaml.YAMLError(_TOO_DEEP) from None
    finally:
        loader.dispose()


def _extent(node: yaml.Node, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Characters and values of a node with every alias in it written out, and levels; no end if it holds itself."""
    if id(node) not in known:
        known[id(node)] = _LARGEST + 1, 0  # what is met again before it is counted is inside itself
        inside = [one for pair in node.value for one in pair] if isinstance(node, yaml.MappingNode) else node.value
        parts = [] if isinstance(inside, str) else [_extent(one, known) for one in inside]
        size = len(inside) + sum(size for size, _ in parts)
        known[id(node)] = 1 + size, 1 + max((depth for _, depth in parts), default=0)
    return known[id(node)]


class _Loader(yaml.SafeLoader):
    """Plain YAML but for three things.

    A key that stands twice is refused: the first would be dropped, for example a whole arm, without a word. So is a
    number that nobody would read as YAML does. And what PyYAML itself trips over, such as the date 2020-13-45, is a
    YAMLError with its line.
    """

    def fetch_flow_collection_start(self, token: Any) -> None:
        if self.flow_level > _DEEPEST:  # here, since the time for what follows grows with the square of the depth
            raise yaml.YAMLError(_TOO_DEEP)
        super().fetch_flow_collection_start(token)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:  # before any merge (<<), which may bring a key again
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.YAMLError(f"the key '{key.value}' a second time in line {key.start_mark.line + 1}")
                seen.add(key.value)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            if node.tag in _NUMBERS and _OTHERWISE.fullmatch(node.value):
                raise ValueError("a number in another notation")
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError) as error:
            said = f"{str(node.value)[:_SHOWN]!r} in line {node.start_mark.line + 1}"
            kind = node.tag.rpartition(":")[2]
            raise yaml.YAMLError(f"{said}, which is no plain {kind}; put quotes around it if it is text") from error


def parse_config(raw: Mapping[str, Any], where: str) -> StudyConfig:
    """Check a mapping and make a study of it."""
    try:
        config = StudyConfig.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(_explain(error, StudyConfig, where)) from None
    config = _with_grid(config, where)
    if not config.arms:
        raise ConfigError(f"{where}, arms: expected one or more arms, or a grid; found neither.")
    if config.baseline not in config.arms:
        known = ", ".join(config.arms)
        raise ConfigError(f"{where}, baseline: expected one of the arms ({known}), found {_shown(config.baseline)}.")
    if "linear" in config.arms:
        raise ConfigError(f"{where}, arms: the name 'linear' is taken by TF-IDF with logistic regression; use another.")
    bad = [name for name in config.arms if not _fits_folder(name)]
    if bad:
        raise ConfigError(f"{where}, arms: an arm's name becomes a folder's, so it cannot be {_shown(bad[0])}.")
    seeds = config.seed_list
    if not seeds or len(set(seeds)) < len(seeds) or any(abs(seed) >= _WHOLE for seed in seeds):
        raise ConfigError(f"{where}, seeds: expected one or more different numbers, found {_shown(config.seeds)}.")
    if config.adaptive and len(config.seed_list) < _FIRST_SEEDS:
        raise ConfigError(
            f"{where}, adaptive: expected at least {_FIRST_SEEDS} seeds to begin with, found {len(config.seed_list)}; "
            "fewer say nothing of how far chance moves a score. Set seeds: 3."
        )
    return config


def _fits_folder(name: str) -> bool:
    return name.isprintable() and "/" not in name and name[:1] not in ("", ".") and len(name) <= _LONGEST_NAME


def _with_grid(config: StudyConfig, where: str) -> StudyConfig:
    """The study with an arm for every cell of its grid, but for those that are written out among the arms."""
    if config.grid is None:
        return config
    many = config.grid.size
    if many > _MOST_ARMS:
        raise ConfigError(f"{where}, grid: expected at most {_MOST_ARMS:,} arms, found {many:,}; leave levels out.")
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
    for key, annotation in get_type_hints(cls).items():
        if key in options and _misread(options[key], annotation):
            raise ConfigError(f"{where}, {key}: expected a number, found {_shown(options[key])}; {_TRUTHS}.")
    try:
        made: T = _adapter(cls).validate_python(dict(options))
    except ValidationError as error:
        raise ConfigError(_explain(error, None, where)) from None
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    for key in options:
        value = getattr(made, key, None)
        if isinstance(value, int) and abs(value) >= _WHOLE:
            raise ConfigError(f"{where}, {key}: expected a number that fits into 64 bits, found {_shown(value)}.")
    return made


@cache
def _adapter(cls: type[Any]) -> TypeAdapter[Any]:
    """What checks the keys of a strategy; making one takes longer than using it."""
    return TypeAdapter(cls)


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
    cls: type[T] = own_class(kind, kinds, where)
    return build(cls, rest, where)


def own_class(spelled: str, kinds: Collection[str], where: str) -> type[Any]:
    """The class that ``"module:Class"`` names.

    Args:
        spelled: What somebody wrote, which is none of ours.
        kinds: Ours, for the message.
        where: The key, for the message.

    Raises:
        ConfigError: it names no class, or none that can be imported.
    """
    module, colon, name = spelled.partition(":")
    if not colon or not module or module.startswith("."):
        raise ConfigError(
            f"{where}: unknown kind '{spelled}'{_suggest(spelled, list(kinds))} Your own is \"module:Class\"."
        )
    try:
        cls: type[Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, SyntaxError, ValueError) as error:  # ValueError: no name of a module
        raise ConfigError(f"{where}: cannot load '{spelled}': {error}. Is the module on PYTHONPATH?") from None
    return cls


def _override(raw: dict[str, Any], override: str) -> dict[str, Any]:
    path, equals, value = override.partition("=")
    if not equals:
        raise ConfigError(f"'{override[:_SHOWN]}': expected key=value, for example seeds=5.")
    try:
        parsed = _read_yaml(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"'{override[:_SHOWN]}': the value is no YAML: {error}") from None
    keys = path.split(".")
    if len(keys) > _DEEPEST:
        raise ConfigError(f"'{override[:_SHOWN]}': expected at most {_DEEPEST} keys with dots between.")
    changed: dict[str, Any] = _put(raw, keys, parsed)
    return changed


def _put(place: Any, keys: Sequence[str], value: Any, path: str = "") -> Any:
    """A place with a value put into it; a copy, because with YAML's anchors one place can stand in many."""
    if not keys:
        return value
    if not isinstance(place, dict | list):
        raise ConfigError(f"'{path}': holds a plain value ({_shown(place)}) in the study file and nothing below it.")
    key, *rest = keys
    path = f"{path}.{key}" if path else key
    if isinstance(place, list):
        at = _index(place, key, path)
        return [*place[:at], _put(place[at], rest, value, path), *place[at + 1 :]]
    return {**place, key: _put(place.get(key, {}), rest, value, path)}


def _index(place: list[Any], key: str, path: str) -> int:
    if not key.isdecimal() or len(key) > len(str(len(place))) or int(key) >= len(place):
        raise ConfigError(f"'{path[:_SHOWN]}': expected a number from 0 to {len(place) - 1}, found '{key[:_SHOWN]}'.")
    return int(key)


def _suggest(key: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(key[:_SHOWN], known, 1)
    return f"; did you mean '{close[0]}'?" if close else f"; known are {', '.join(known) or 'none'}."


def _explain(error: ValidationError, model: type[BaseModel] | None, where: str) -> str:
    """One line for each place that is wrong."""
    told: dict[tuple[str, ...], list[str]] = {}
    problems = error.errors()
    for problem in problems[:_MOST_TOLD]:
        place = tuple(str(part)[:_SHOWN] for part in problem["loc"] if not _is_branch(part))
        if problem["type"] == "extra_forbidden":
            text = f"unknown key{_suggest(str(problem['loc'][-1]), _keys(model, problem['loc'][:-1]))}"
        elif problem["type"] in ("missing", "missing_argument"):
            text = "this key is missing"
        else:
            expected = re.sub("a valid dictionary( or instance of .*)?", "a mapping", problem["msg"])
            text = f"{expected.replace('Input should be', 'expected')}, found {_shown(problem['input'])}"
            if problem["type"] == "number" or (isinstance(problem["input"], bool) and problem["type"] == "string_type"):
                text += f"; {_TRUTHS}"
        told.setdefault(place, []).append(text)
    # of a union, each branch complains; those that got further down are the ones that were meant
    meant = [place for place in told if not any(other != place == other[: len(place)] for other in told)]
    lines = [f"{', '.join(filter(None, [where, '.'.join(place)]))}: {'; or '.join(told[place])}" for place in meant]
    more = [f"{where}: and {len(problems) - _MOST_TOLD:,} mistakes more"] if len(problems) > _MOST_TOLD else []
    return "\n".join([*lines, *more])


def _shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    said = repr(value)
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN]} …"


def _is_branch(part: Any) -> bool:
    """Pydantic puts the branch of a union into the place; a reader of YAML knows no branches."""
    return isinstance(part, str) and (
        part in {"str", "int", "bool", "constrained-int", "CorpusConfig", "AdaptiveConfig"} or "[" in part
    )


def _keys(model: type[BaseModel] | None, place: Sequence[Any]) -> list[str]:
    """The keys of the model at a place."""
    for part in place:
        field = None if model is None else model.model_fields.get(str(part))
        if field is None:
            continue
        candidates = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), model)
    return list(model.model_fields) if model is not None else []
