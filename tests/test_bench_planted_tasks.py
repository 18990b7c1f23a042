"""The made-up tasks of the bench: labels are what was planted, words give nothing away, and trainings show it."""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from trivium.core import Task
from trivium.kinds import kind_of

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCH))
    import planted_tasks

    yield planted_tasks
    sys.path.remove(str(BENCH))


@pytest.fixture(scope="module")
def made(bench: ModuleType) -> Any:
    return bench.planted(0, beside=320, dev=40, test=300)


def counts(text: str, words: tuple[str, ...], classes: Any) -> list[int]:
    """How many of the words of a text are of each class."""
    of = dict(zip(words, classes.tolist(), strict=True))
    return [sum(of.get(word) == number for word in text.split()) for number in range(4)]


def test_labels_are_functions_of_the_classes_that_each_task_is_about(made: Any) -> None:
    hidden = made.hidden
    for split in ("train", "dev", "test"):
        rows = made.task.rows(split).to_pylist()
        for row in rows:
            of = counts(row["text"], hidden.telling, hidden.classes)
            assert sum(of) == 5
            assert row["label"] == (of[2] + of[3] > of[0] + of[1])
    about = (
        (made.helpful, hidden.telling, hidden.classes),
        (made.harmful, hidden.telling, hidden.swapped),
        (made.irrelevant, hidden.others, hidden.elsewhere),
    )
    for (most, twice), words, classes in about:
        for row in most.rows("train").to_pylist():
            of = counts(row["text"], words, classes)
            assert row["label"] == of.index(max(of))
        for row in twice.rows("train").to_pylist():
            assert row["label"] == [i for i, n in enumerate(counts(row["text"], words, classes)) if n > 1]


def test_half_of_each_class_moved_to_the_opposite_one(made: Any) -> None:
    stayed = made.hidden.swapped == made.hidden.classes
    assert set(made.hidden.swapped[~stayed] - made.hidden.classes[~stayed]) == {2, -2}
    for number in range(4):
        assert stayed[made.hidden.classes == number].mean() == 0.5


def test_the_swap_leaves_nothing_of_the_upper_half_and_other_words_say_nothing_of_it(made: Any) -> None:
    def upper(classes: Any) -> Any:
        return np.where(classes >= 2, 1, -1)

    assert upper(made.hidden.swapped) @ upper(made.hidden.classes) == 0
    assert not set(made.hidden.telling) & set(made.hidden.others)


def test_words_and_sizes_do_not_tell_candidates_apart(made: Any) -> None:
    every = {*made.hidden.telling, *made.hidden.others}
    assert len(every) == 128
    often = dict.fromkeys(made.hidden.telling, 320 * 5 // 64) | dict.fromkeys(made.hidden.others, 320 * 3 // 64)
    assert all(Counter(" ".join(task.texts("train")).split()) == often for task in made.candidates)
    assert set(" ".join(made.task.texts("train")).split()) == every
    assert {len(task.rows("train")) for task in made.candidates} == {320}
    assert {len(text.split()) for task in made.candidates for text in task.texts("train")} == {8}
    for pair in (made.helpful, made.harmful, made.irrelevant):
        assert [(task.kind, task.metric) for task in pair] == [("classify", "accuracy"), ("multilabel", "micro_f1")]


def test_tasks_have_names_of_their_own_and_share_no_text(made: Any) -> None:
    tasks = (made.task, *made.candidates)
    assert len({task.name for task in tasks}) == 7
    texts = [text for task in tasks for split in task.tables for text in task.texts(split)]
    assert len(set(texts)) == len(texts)
    for task in tasks:
        kind_of(task)  # refuses a metric that the kind does not have
    assert all(set(task.tables) == {"train"} for task in made.candidates)
    assert [len(made.task.rows(split)) for split in ("train", "dev", "test")] == [64, 40, 300]


def test_the_seed_decides_everything(bench: ModuleType, made: Any) -> None:
    def names(of: Any) -> list[str]:
        return [task.fingerprint for task in (of.task, *of.candidates)]

    assert names(bench.planted(0, beside=320, dev=40, test=300)) == names(made)
    assert not set(names(bench.planted(1, beside=320, dev=40, test=300))) & set(names(made))


def test_words_of_a_class_begin_nearer_each_other_and_only_where_they_are_known(bench: ModuleType, made: Any) -> None:
    def gap(known: float) -> float:
        models = bench.Models.of(made, known=known)
        weights = models.language(0).backbone.get_input_embeddings().weight.detach().numpy()
        places = weights[models.tokenizer.convert_tokens_to_ids(list(made.hidden.telling))]
        same = made.hidden.classes[:, None] == made.hidden.classes
        apart = np.linalg.norm(places[:, None] - places, axis=-1)
        return float(apart[~same].mean() - apart[same & ~np.eye(64, dtype=bool)].mean()) / float(apart.mean())

    assert gap(1.0) > 0.1
    assert abs(gap(0.0)) < 0.05


def test_the_encoder_is_the_same_for_a_seed_and_another_for_another(bench: ModuleType, made: Any) -> None:
    models = bench.Models.of(made, layers=2)
    one, same, other = (models.language(seed).state_dict() for seed in (3, 3, 4))
    assert all((one[name] == same[name]).all() for name in one)
    assert any((one[name] != other[name]).any() for name in one)


@pytest.mark.slow
def test_helpful_tasks_help_and_harmful_ones_harm(bench: ModuleType) -> None:
    """The quick form of what the bench prints: two seeds, the first of each pair."""

    def gained(seed: int) -> dict[str, float]:
        made = bench.planted(seed, test=1000)
        models = bench.Models.of(made)

        def accuracy(*beside: Task) -> float:
            return float(models.accuracy(made.task, beside, seed=seed))

        alone = accuracy()
        pairs = {"helpful": made.helpful, "harmful": made.harmful, "irrelevant": made.irrelevant}
        return {role: accuracy(pair[0]) - alone for role, pair in pairs.items()}

    found = [gained(seed) for seed in range(2)]
    helpful, harmful, irrelevant = (np.mean([one[role] for one in found]) for role in found[0])
    assert helpful > 0.08
    assert harmful < -0.03
    assert harmful + 0.03 < irrelevant < helpful - 0.05
