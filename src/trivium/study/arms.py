"""From the study file to arms: a selector, a recipe, and the questions that are asked of the results."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from trivium.config import StudyConfig, choose
from trivium.core import JSON, Stage
from trivium.documents import SELECTORS, Budget, NoDocuments, RandomDocuments, Selector
from trivium.errors import ConfigError
from trivium.masking import MASKERS
from trivium.training.recipes import Recipe, Spec, make_spec, make_stage
from trivium.training.turns import planned_updates


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        name: Its name in the study file.
        selector: What it reads.
        recipe: How it is trained.
    """

    name: str
    selector: Selector
    recipe: Recipe


def resolve(config: StudyConfig) -> dict[str, Arm]:
    """The arms of a study, every default written out.

    Raises:
        ConfigError: a key is wrong, or an arm has a stage that reads documents and nothing to read, or the reverse.
    """
    spec = make_spec(config.encoder)
    arms = {}
    for name, options in config.arms.items():
        where = f"arms.{name}"
        selector = choose(SELECTORS, options.documents or {"kind": "none"}, f"{where}.documents")
        masker = choose(MASKERS, options.masker or {"kind": "random"}, f"{where}.masker")
        stages = tuple(make_stage(s, spec, f"{where}.stages.{i}") for i, s in enumerate(options.stages))
        names = [stage.name for stage in stages]
        if len(set(names)) < len(names):
            raise ConfigError(f"{where}.stages: two stages are called '{max(names, key=names.count)}'; give a 'name'.")
        if "task" not in stages[-1].mix:
            raise ConfigError(
                f"{where}.stages: the last stage, '{names[-1]}', does not train on the task; add finetune."
            )
        if beside := next((stage.name for stage in stages if "auxiliary" in stage.mix), None):
            raise ConfigError(
                f"{where}: stage '{beside}' learns auxiliary tasks, which a study file cannot name. Take them out of "
                "its mix, or train in Python: trivium.train(…, auxiliary=[…])."
            )
        recipe = Recipe(stages, masker)
        if recipe.reads() and isinstance(selector, NoDocuments):
            raise ConfigError(
                f"{where}: stage '{next(s.name for s in stages if 'documents' in s.mix)}' reads documents, but the arm "
                f"chooses none. Give documents: {{kind: bm25, per_query: 50, max_tokens: 2_000_000}}."
            )
        if not recipe.reads() and not isinstance(selector, NoDocuments):
            raise ConfigError(f"{where}: it chooses documents, but no stage reads them; add {{preset: tlm-joint}}.")
        if recipe.reads() and config.corpus is None:
            raise ConfigError(f"{where}: it reads documents, but the study has no 'corpus'.")
        arms[name] = Arm(name, selector, recipe)
    return arms


def equalise(arms: Mapping[str, Arm], rows: int, tokens: Mapping[str, int], *, equal: str) -> dict[str, Arm]:
    """Write every stage's length in updates, and let all arms spend alike.

    An arm that is shorter than the longest has its last stage lengthened: fine-tuning alone may go on for as long as
    others read. Early stopping may end it before; the report shows what each arm spent.

    Args:
        arms: The arms.
        rows: Training rows of the task.
        tokens: Tokens of each arm's documents.
        equal: ``updates``, or ``nothing`` to leave the arms as they are.
    """
    lengths = {
        name: [planned_updates(stage, rows, tokens.get(name, 0)) for stage in arm.recipe.stages]
        for name, arm in arms.items()
    }
    longest = max(sum(updates) for updates in lengths.values())
    result = {}
    for name, arm in arms.items():
        updates = lengths[name]
        if equal == "updates":
            updates[-1] += longest - sum(updates)
        stages = tuple(
            replace(stage, updates=n, epochs=None) for stage, n in zip(arm.recipe.stages, updates, strict=True)
        )
        result[name] = replace(arm, recipe=replace(arm.recipe, stages=stages))
    return result


def questions(arms: Mapping[str, Arm], baseline: str) -> list[tuple[str, str]]:
    """Which arm is measured against which: each against the baseline, and each against its random twin.

    The random twin of an arm differs from it in nothing but that it reads random documents, as many of them. Against
    the baseline one learns whether reading helped; against the twin, whether *choosing* did.
    """
    pairs = [(name, baseline) for name in arms if name != baseline]
    pairs += [(name, other) for name in arms for other in arms if other != baseline and _twins(arms[name], arms[other])]
    return pairs


def _twins(arm: Arm, twin: Arm) -> bool:
    """Whether the second is the random twin of the first."""
    chosen = not isinstance(arm.selector, RandomDocuments | NoDocuments) and isinstance(twin.selector, RandomDocuments)
    return chosen and arm.recipe == twin.recipe and Budget.of(arm.selector) == Budget.of(twin.selector)


def spelled(strategy: Any, kinds: Mapping[str, type[Any]]) -> dict[str, JSON]:
    """A strategy as the study file writes it, every default written out."""
    cls = type(strategy)
    name = next((kind for kind, known in kinds.items() if known is cls), f"{cls.__module__}:{cls.__qualname__}")
    return {"kind": name, **asdict(strategy)}


def spelled_encoder(spec: Spec) -> dict[str, JSON]:
    """An encoder as the study file writes it."""
    return {key: value for key, value in asdict(spec).items() if value is not None}


def spelled_arm(arm: Arm) -> dict[str, JSON]:
    """An arm as the study file writes it, every default written out."""
    return {
        "documents": spelled(arm.selector, SELECTORS),
        "masker": spelled_masker(arm.recipe.masker),
        "stages": [spelled_stage(stage) for stage in arm.recipe.stages],
    }


def spelled_stage(stage: Stage) -> dict[str, JSON]:
    """A stage as the study file writes it."""
    return {key: dict(value) if isinstance(value, Mapping) else value for key, value in asdict(stage).items()}


def spelled_masker(masker: Any) -> dict[str, JSON]:
    """A masker as the study file writes it."""
    return spelled(masker, MASKERS)
