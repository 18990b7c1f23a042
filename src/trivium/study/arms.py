"""From the study file to arms: a selector, a recipe, and the questions that are asked of the results."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from trivium.auxiliary import SELECTORS as BESIDE
from trivium.auxiliary import AllTasks, AuxiliarySelector, NoTasks, RandomTasks
from trivium.auxiliary.choosers import RowChooser
from trivium.config import ArmConfig, StudyConfig, choose
from trivium.core import JSON, Stage, Stream
from trivium.documents import SELECTORS, Budget, NoDocuments, RandomDocuments, Selector
from trivium.errors import ConfigError
from trivium.masking import Fits, Masker, RandomTokens, WholeWord
from trivium.nmg import MASKERS, make_masker
from trivium.training import compares, masks
from trivium.training.recipes import Recipe, Spec, make_spec, make_stage, spec_of
from trivium.training.turns import planned_updates

_ROUNDED = 1e-6  # of an update: what sums of floats may be off


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        name: Its name in the study file.
        selector: What it reads.
        recipe: How it is trained; its encoder is known.
        auxiliary: What it learns beside the task; none where no stage learns any other.
    """

    name: str
    selector: Selector
    recipe: Recipe
    auxiliary: AuxiliarySelector | None = None

    @property
    def spec(self) -> Spec:
        """The encoder that it trains."""
        return spec_of(self.recipe.encoder)


def resolve(config: StudyConfig) -> dict[str, Arm]:
    """The arms of a study, every default written out.

    Raises:
        ConfigError: a key is wrong, or an arm has a stage that reads documents and nothing to read, or the reverse, or
            a masker and nothing to hide in, or one that compares and the study no corpus.
    """
    arms = {}
    for name, options in config.arms.items():
        where = f"arms.{name}"
        spec = make_spec(config.encoder if options.encoder is None else options.encoder)
        selector = choose(SELECTORS, options.documents or {"kind": "none"}, f"{where}.documents")
        masker = make_masker(options.masker or {"kind": "random"}, f"{where}.masker")
        made = [make_stage(s, spec, f"{where}.stages.{i}") for i, s in enumerate(options.stages)]
        stages = tuple(left for stage in made if (left := without(stage, options.without)) is not None)
        if not stages:
            raise ConfigError(f"{where}.stages: nothing is left without {', '.join(options.without)}; add finetune.")
        names = [stage.name for stage in stages]
        if len(set(names)) < len(names):
            raise ConfigError(f"{where}.stages: two stages are called '{max(names, key=names.count)}'; give a 'name'.")
        if "task" not in stages[-1].mix:
            raise ConfigError(
                f"{where}.stages: the last stage, '{names[-1]}', does not train on the task; add finetune."
            )
        recipe = Recipe(stages, masker, spec)
        if recipe.reads() and isinstance(selector, NoDocuments):
            raise ConfigError(
                f"{where}: stage '{next(s.name for s in stages if 'documents' in s.mix)}' reads documents, but the arm "
                f"chooses none. Give documents: {{kind: bm25, per_query: 50, max_tokens: 2_000_000}}."
            )
        if not recipe.reads() and not isinstance(selector, NoDocuments):
            raise ConfigError(f"{where}: it chooses documents, but no stage reads them; add {{preset: tlm-joint}}.")
        if recipe.reads() and config.corpus is None:
            raise ConfigError(f"{where}: it reads documents, but the study has no 'corpus'.")
        if masker != RandomTokens() and not masks(stages):
            raise ConfigError(
                f"{where}: it has a masker, but no stage hides anything; add {{preset: tapt}}, or take 'masker' out."
            )
        if compares(masker) and config.corpus is None:
            raise ConfigError(
                f"{where}.masker: {spelled_masker(masker)['kind']} compares the texts with general ones, but the study "
                "has no 'corpus'. Name one; no arm needs to read it."
            )
        arms[name] = Arm(name, selector, recipe, _beside(config, options, stages, where))
    return arms


def _beside(config: StudyConfig, options: ArmConfig, stages: Sequence[Stage], where: str) -> AuxiliarySelector | None:
    """How an arm chooses among the study's auxiliary tasks.

    Raises:
        ConfigError: it has a stage that learns some and there are none, or the reverse.
    """
    learns = next((stage.name for stage in stages if "auxiliary" in stage.mix), None)
    if learns is None and options.auxiliary is None:
        return None
    if learns is None:
        raise ConfigError(
            f"{where}: it chooses auxiliary tasks, but no stage learns them; add {{preset: multitask}} before finetune."
        )
    if not config.auxiliary_tasks:
        raise ConfigError(
            f"{where}: stage '{learns}' learns auxiliary tasks, but the study has no 'auxiliary_tasks'. Name some, or "
            "take 'auxiliary' out of its mix."
        )
    selector: AuxiliarySelector = choose(BESIDE, options.auxiliary or {"kind": "all"}, f"{where}.auxiliary")
    return selector


def equalise(
    arms: Mapping[str, Arm],
    rows: int,
    tokens: Mapping[str, Mapping[Stream, int]],
    beside: Mapping[str, Mapping[str, int]] | None = None,
    costs: Mapping[str, Sequence[float]] | None = None,
    *,
    task: str = "task",
    equal: str,
) -> dict[str, Arm]:
    """Write every stage's length in updates, and let all arms spend alike.

    An arm that spends less than the dearest has its last stage lengthened: fine-tuning alone may go on for as long as
    others read. Early stopping may end it before; the report shows what each arm spent.

    Args:
        arms: The arms.
        rows: Training rows of the task.
        tokens: Of each arm, the tokens of its documents and of its texts.
        beside: Of each arm that learns other tasks, their training rows by name.
        costs: Of each arm, what an update of each stage takes of what is to be equal (``lengths.update_costs``);
            1, if not given: updates are.
        task: Name of the task.
        equal: ``nothing`` leaves the arms as they are; all else lets them spend alike.
    """
    others = beside or {}
    lengths = {
        name: [
            planned_updates(settled(stage, others.get(name)), rows, tokens.get(name, {}), others.get(name), task=task)
            for stage in arm.recipe.stages
        ]
        for name, arm in arms.items()
    }
    each = {name: (costs or {}).get(name) or [1.0] * len(updates) for name, updates in lengths.items()}
    spent = {name: sum(n * cost for n, cost in zip(lengths[name], each[name], strict=True)) for name in arms}
    result = {}
    for name, arm in arms.items():
        updates = lengths[name]
        if equal != "nothing":
            updates[-1] += int((max(spent.values()) - spent[name]) / each[name][-1] + _ROUNDED)
        stages = tuple(
            replace(stage, updates=n, epochs=None) for stage, n in zip(arm.recipe.stages, updates, strict=True)
        )
        result[name] = replace(arm, recipe=replace(arm.recipe, stages=stages))
    return result


def settled(stage: Stage, beside: Iterable[Any] | None) -> Stage:
    """A stage as it is run: where nothing was chosen to be learned beside the task, the task is learned alone.

    >>> settled(Stage("multitask", {"task": 1, "auxiliary": 1}, epochs=1), []).mix
    {'task': 1}
    """
    if "auxiliary" not in stage.mix or any(True for _ in beside or ()):
        return stage
    return without(stage, ["auxiliary"]) or replace(stage, mix={"task": 1}, sampling=None, combine="alternate")


def without(stage: Stage, streams: Sequence[Stream]) -> Stage | None:
    """A stage that leaves some streams out of its mix; none if it has no other.

    >>> without(Stage("joint", {"documents": 4, "task": 1}, updates=9), ["documents"]).mix
    {'task': 1}
    """
    mix: dict[Stream, int] = {stream: turns for stream, turns in stage.mix.items() if stream not in streams}
    if len(mix) == len(stage.mix):
        return stage
    if "auxiliary" not in mix:
        stage = replace(stage, sampling=None, combine="alternate")  # they are about auxiliary tasks
    return replace(stage, mix=mix) if mix else None


def questions(arms: Mapping[str, Arm], baseline: str) -> list[tuple[str, str]]:
    """Which arm is measured against which: each against the baseline, and each against its random twins.

    A random twin of an arm differs from it in one choice that is left to chance: it reads random documents, as many of
    them; hides random words or tokens, as large a share; or learns random tasks, or as many random rows, beside.
    Against the baseline one learns whether reading, filling gaps and learning beside helped; against a twin, whether
    *choosing* did.
    """
    pairs = [(name, baseline) for name in arms if name != baseline]
    pairs += [(name, other) for name in arms for other in arms if other != baseline and _twins(arms[name], arms[other])]
    return pairs


def _twins(arm: Arm, twin: Arm) -> bool:
    """Whether the second is a random twin of the first: one choice is left to chance, and all else is the same."""
    if arm.auxiliary != twin.auxiliary:
        same = arm.selector == twin.selector and arm.recipe == twin.recipe
        return same and _random_beside(arm.auxiliary, twin.auxiliary)
    if arm.recipe == twin.recipe:
        chosen = not isinstance(arm.selector, RandomDocuments | NoDocuments)
        random = isinstance(twin.selector, RandomDocuments)
        return chosen and random and Budget.of(arm.selector) == Budget.of(twin.selector)
    same = arm.selector == twin.selector and replace(arm.recipe, masker=twin.recipe.masker) == twin.recipe
    return same and twin.recipe.masker in random_maskers(arm.recipe.masker)


def _random_beside(chooser: AuxiliarySelector | None, twin: AuxiliarySelector | None) -> bool:
    """Whether the second leaves to chance what the first chooses: rows of the same tasks, or tasks."""
    if isinstance(chooser, RowChooser) and isinstance(twin, RowChooser):
        return chooser.which != "random" and replace(chooser, which="random") == twin
    return isinstance(twin, RandomTasks) and not isinstance(chooser, RandomTasks | AllTasks | NoTasks | None)


def random_maskers(masker: Masker | Fits) -> tuple[Masker, ...]:
    """The maskers that hide as large a share at random, of the same units if it has some; none if it is one itself.

    >>> from trivium.masking import Spans
    >>> random_maskers(Spans(rate=0.3)), random_maskers(WholeWord())
    ((WholeWord(rate=0.3),), ())
    """
    rate, unit = getattr(masker, "rate", None), getattr(masker, "unit", None)
    if rate is None or isinstance(masker, RandomTokens | WholeWord):
        return ()
    words, tokens = WholeWord(rate), RandomTokens(rate)
    return (words,) if unit == "word" else (tokens,) if unit == "token" else (words, tokens)


def spelled(strategy: Any, kinds: Mapping[str, type[Any]]) -> dict[str, JSON]:
    """A strategy as the study file writes it, every default written out."""
    cls = type(strategy)
    name = next((kind for kind, known in kinds.items() if known is cls), f"{cls.__module__}:{cls.__qualname__}")
    return {"kind": name, **_plain(strategy)}


def _plain(value: Any) -> JSON:
    """A value in what YAML and JSON can say: mappings and what is in them, lists, folders by their names."""
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value) if each.init}
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def spelled_encoder(spec: Spec) -> dict[str, JSON]:
    """An encoder as the study file writes it."""
    return {key: value for key, value in asdict(spec).items() if value is not None}


def spelled_arm(arm: Arm) -> dict[str, JSON]:
    """An arm as the study file writes it, every default written out."""
    return {
        "encoder": spelled_encoder(arm.spec),
        "documents": spelled(arm.selector, SELECTORS),
        "masker": spelled_masker(arm.recipe.masker),
        **({"auxiliary": spelled(arm.auxiliary, BESIDE)} if arm.auxiliary is not None else {}),
        "stages": [spelled_stage(stage) for stage in arm.recipe.stages],
    }


def spelled_stage(stage: Stage) -> dict[str, JSON]:
    """A stage as the study file writes it."""
    return dict(_plain(stage))


def spelled_masker(masker: Any) -> dict[str, JSON]:
    """A masker as the study file writes it."""
    return spelled(masker, MASKERS)
