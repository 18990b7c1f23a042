"""Every kind of task, through every kind of encoder: it learns what is there, and plain transformers says the same."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.testing import assert_close

from conftest import COMMON, TOPICS, sentence
from test_training import SHAPES, pretrained
from trivium.core import Stage, Task
from trivium.encoders.encoder import inputs_of, load_head, logits_of
from trivium.encoders.streams import collate
from trivium.errors import ConfigError
from trivium.kinds import KINDS, Cut, kind_of
from trivium.masking import RandomTokens
from trivium.training import Encoder, Recipe, Scratch, evaluate, new_encoder, run_stage, train
from trivium.training.evaluation import answers
from trivium.training.predict import Predictor

TUNE = Stage("tune", {"task": 1}, updates=120, lr=2e-3, batch_rows=16, max_length=48, keep_best=False)
METRIC = {
    "classify": "accuracy", "multilabel": "micro_f1", "regress": "pearson", "rank": "accuracy", "tag": "entity_f1",
    "span": "f1",
}  # fmt: skip
LABELS = {
    "classify": tuple(TOPICS), "multilabel": tuple(TOPICS), "regress": ("score",), "rank": ("score",),
    "tag": ("O", "B-chess", "I-chess"), "span": ("start", "end"),
}  # fmt: skip
NAMES = list(TOPICS)


def classify(rng: np.random.Generator) -> dict[str, Any]:
    label = int(rng.integers(3))
    return {"text": sentence(rng, NAMES[label]), "label": label}


def multilabel(rng: np.random.Generator) -> dict[str, Any]:
    label = [i for i in range(3) if rng.random() < 0.5]
    words = [rng.choice(TOPICS[NAMES[i]]) for i in label for _ in range(4)]
    return {"text": " ".join(rng.permutation([*words, *rng.choice(COMMON, 6)])), "label": label}


def regress(rng: np.random.Generator) -> dict[str, Any]:
    many = int(rng.integers(0, 9))
    words = [*rng.choice(TOPICS["chess"], many), *rng.choice(COMMON, 9 - many)]
    return {"text": " ".join(rng.permutation(words)), "label": 1000.0 + 250.0 * many}


def rank(rng: np.random.Generator) -> dict[str, Any]:
    choices = [sentence(rng, rng.choice(NAMES[:2]), 6) for _ in range(int(rng.integers(2, 5)))]
    label = int(rng.integers(len(choices)))
    choices[label] = sentence(rng, "chess", 6)
    return {"text": "which is of chess", "choices": choices, "label": label}


def tag(rng: np.random.Generator) -> dict[str, Any]:
    tokens, label = [], []
    for _ in range(8):
        if rng.random() < 0.3:
            tokens += [str(rng.choice(TOPICS["chess"][:5])), str(rng.choice(TOPICS["chess"][5:]))]
            label += [1, 2]
        tokens.append(str(rng.choice(COMMON)))
        label.append(0)
    return {"text": " ".join(tokens), "tokens": tokens, "label": label}


def span(rng: np.random.Generator) -> dict[str, Any]:
    words = [str(word) for word in rng.choice(COMMON, 20)]
    label = []
    if rng.random() < 0.8:
        place = int(rng.integers(20))
        words[place] = str(rng.choice(TOPICS["chess"]))
        label = [{"text": words[place], "start": len(" ".join(words[:place])) + (place > 0)}]
    return {"text": "what is of chess", "text_pair": " ".join(words), "label": label}


MAKERS: dict[str, Callable[[np.random.Generator], dict[str, Any]]] = {
    "classify": classify, "multilabel": multilabel, "regress": regress, "rank": rank, "tag": tag, "span": span,
}  # fmt: skip


def make(kind: str, rows: int = 240, *, signal: bool = True, seed: int = 0) -> Task:
    """A task of a kind, whose words give the label away; without a signal, labels are those of other rows."""
    rng = np.random.default_rng(seed)

    def table(many: int) -> pa.Table:
        made = [MAKERS[kind](rng) for _ in range(many)]
        if not signal:
            for row, other in zip(made, rng.permutation(len(made)), strict=True):
                row["label"] = made[int(other)]["label"]
        columns = {name: [row[name] for row in made] for name in made[0]}
        return pa.table({**columns, "file": ["f"] * many, "row": list(range(1, many + 1))})

    return Task(kind, kind, METRIC[kind], LABELS[kind], {"train": table(rows), "dev": table(60), "test": table(60)})


TASKS = {kind: make(kind) for kind in MAKERS}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


@EVERY_KIND
def test_it_learns_what_is_there(kind: str) -> None:
    encoder = train(TASKS[kind], Recipe((TUNE,)), encoder=Scratch("tiny", vocabulary=512))
    found = evaluate(encoder, TASKS[kind])
    assert found.value > {"span": 0.6, "tag": 0.8}.get(kind, 0.85), found.values


@pytest.mark.parametrize("kind", ["classify", "regress", "rank"])
def test_it_does_not_learn_what_is_not_there(kind: str) -> None:
    task = make(kind, signal=False) if kind != "rank" else _without_right_choice()
    stage = replace(TUNE, updates=60)
    value = evaluate(train(task, Recipe((stage,)), encoder=Scratch("tiny", vocabulary=512)), task).value
    chance = {"classify": 1 / 3, "regress": 0.0, "rank": 1 / 3}[kind]
    assert abs(value - chance) < 0.27


def _without_right_choice() -> Task:
    """Which of the choices is called right is chance."""
    task, rng = make("rank"), np.random.default_rng(1)
    tables = {}
    for split, rows in task.tables.items():
        label = [int(rng.integers(len(choices))) for choices in rows["choices"].to_pylist()]
        tables[split] = rows.set_column(rows.column_names.index("label"), "label", pa.array(label))
    return replace(task, tables=tables)


@pytest.mark.parametrize("architecture", SHAPES)
def test_every_architecture_learns_every_kind_side_by_side(architecture: str, tokenizer: Any, tmp_path: Path) -> None:
    """One backbone, six heads; each is saved as a plain model that gives the same logits, and is read again."""
    folder = pretrained(architecture, SHAPES[architecture], tokenizer, tmp_path / "hub")
    task, *others = TASKS.values()
    stage = replace(TUNE, mix={"task": 1, "auxiliary": 1}, sampling="uniform", updates=12, batch_rows=4)
    encoder = train(task, Recipe((stage,)), encoder=str(folder), auxiliary=others)
    encoder.save(tmp_path / "saved")
    again = Encoder.load(tmp_path / "saved")
    for kind, one in TASKS.items():
        place = tmp_path / "saved" / "tasks" / kind
        rows = one.rows("dev").slice(0, 6)
        encoded = kind_of(one).encode(encoder.tokenizer, rows, one.labels, encoder.cut_of(kind))
        batch = collate(encoded, np.arange(6), encoder.tokenizer.pad_token_id, types=encoder.wants_types)
        with torch.inference_mode():
            ours = encoder.answer(kind, encoder.hidden(batch), batch)
            theirs = logits_of(load_head(place).eval(), inputs_of(batch))
            assert_close(again.answer(kind, again.hidden(batch), batch), ours, atol=1e-5, rtol=1e-4)
        assert_close(theirs, ours, atol=1e-4, rtol=1e-3)
        said, _ = Predictor(place).answers(one.rows("dev").to_pylist())
        expected = evaluate(encoder, one, split="dev").predicted
        assert all(np.array_equal(a, b) or a == pytest.approx(b, rel=1e-3) for a, b in zip(said, expected, strict=True))


HEADS = {
    "classify": "SequenceClassification", "multilabel": "SequenceClassification", "regress": "SequenceClassification",
    "rank": "MultipleChoice", "tag": "TokenClassification", "span": "QuestionAnswering",
}  # fmt: skip


@EVERY_KIND
def test_the_plain_class_of_its_kind_loads_it(kind: str, fresh: Any, tmp_path: Path) -> None:
    import transformers

    encoder = fresh(Scratch("tiny", vocabulary=512))
    encoder.add_head(TASKS[kind])
    encoder.save(tmp_path)
    plain = getattr(transformers, f"AutoModelFor{HEADS[kind]}")
    model, info = plain.from_pretrained(tmp_path / "tasks" / kind, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert tuple(model.config.id2label.values()) == LABELS[kind]


@EVERY_KIND
@pytest.mark.parametrize("long_text", ["head", "head+tail", "windows"])
def test_rows_do_not_feel_who_shares_their_batch(kind: str, long_text: Any, fresh: Any) -> None:
    task, encoder = TASKS[kind], fresh(Scratch("tiny", vocabulary=512))
    encoder.add_head(task)
    cut, rows = Cut(16, long_text), task.rows("dev").slice(0, 9)
    encoded = kind_of(task).encode(encoder.tokenizer, rows, task.labels, cut)
    said, sure, losses = answers(encoder, task, encoded, rows)
    for i in range(9):
        one = rows.slice(i, 1)
        alone = answers(encoder, task, kind_of(task).encode(encoder.tokenizer, one, task.labels, cut), one)
        assert np.asarray(alone[1][0]) == pytest.approx(np.asarray(sure[i]), abs=1e-5)
        assert alone[2][0] == pytest.approx(losses[i], rel=1e-3)
        assert np.array_equal(alone[0][0], said[i]) or alone[0][0] == pytest.approx(said[i], rel=1e-3)


@EVERY_KIND
def test_resuming_equals_never_stopping(kind: str, fresh: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from trivium.training import loop
    from trivium.training.checkpoint import weights_of

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    task, others = TASKS[kind], [TASKS["tag"] if kind != "tag" else TASKS["span"]]
    stage = replace(TUNE, mix={"task": 2, "auxiliary": 1}, updates=9, dropout=0.1, mlm_weight=1.0, micro_tokens=128)
    how: dict[str, Any] = {"auxiliary": others, "masker": RandomTokens(), "seed": 0}

    class KilledError(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done == 5:
            raise KilledError

    whole, killed, again = (fresh(Scratch("tiny", vocabulary=512)) for _ in range(3))
    told = run_stage(whole, stage, task, **how)
    with pytest.raises(KilledError):
        run_stage(killed, stage, task, resume=tmp_path / "kept", watch=kill, **how)
    assert run_stage(again, stage, task, resume=tmp_path / "kept", **how).events == told.events
    for name, value in weights_of(whole).items():
        assert torch.equal(value, weights_of(again)[name]), name


@pytest.mark.parametrize("wish", ["balanced", {"chess": 5.0}])
def test_weights_of_classes_change_what_is_learned_and_need_classes(wish: Any, fresh: Any) -> None:
    plain, weighted = fresh(Scratch("tiny", vocabulary=512)), fresh(Scratch("tiny", vocabulary=512))
    task, how = make("multilabel"), {"masker": RandomTokens(), "seed": 0}
    run_stage(plain, replace(TUNE, updates=3), task, **how)
    run_stage(weighted, replace(TUNE, updates=3, class_weight=wish), task, **how)
    one, two = (evaluate(encoder, task).probabilities for encoder in (plain, weighted))
    assert not np.allclose(one, two, atol=1e-5)
    with pytest.raises(ConfigError, match="no classes to weigh"):
        run_stage(plain, replace(TUNE, class_weight=wish), TASKS["regress"], **how)


def test_a_rare_class_is_found_when_classes_are_weighed(tokenizer: Any) -> None:
    """1 in 30 rows is of a class that one word tells apart; a few updates find it only if it counts for more."""
    rng = np.random.default_rng(0)
    rows = [(sentence(rng, "cooking", 8) + (" rook" if i % 30 == 0 else " mast"), int(i % 30 == 0)) for i in range(300)]
    columns = dict(zip(("text", "label"), map(list, zip(*rows, strict=True)), strict=True))
    table = pa.table({**columns, "file": ["f"] * 300, "row": list(range(300))})
    task = Task("rare", "classify", "accuracy", ("no", "yes"), {"train": table, "dev": table, "test": table})
    stage, sure = replace(TUNE, updates=6, lr=1e-3, batch_rows=60), {}
    for wish in ("none", "balanced"):
        encoder = new_encoder(Scratch("tiny", vocabulary=512), tokenizer, 48, 0)
        run_stage(encoder, replace(stage, class_weight=wish), task, masker=RandomTokens(), seed=0)  # type: ignore[arg-type]
        sure[wish] = evaluate(encoder, task).probabilities[:, 1].mean()
    assert sure["none"] < 0.1 < sure["balanced"]


@pytest.mark.slow
def test_windows_see_what_lies_beyond_the_head(tokenizer: Any) -> None:
    """The telling word stands at the end of a text four times as long as an input may be."""
    rng = np.random.default_rng(0)
    ends = [(str(rng.choice(TOPICS[NAMES[i % 2]])), i % 2) for i in range(160)]
    rows = [(" ".join([*rng.choice(COMMON, 56), end]), label) for end, label in ends]
    columns = dict(zip(("text", "label"), map(list, zip(*rows, strict=True)), strict=True))
    table = pa.table({**columns, "file": ["f"] * 160, "row": list(range(160))})
    task = Task("late", "classify", "accuracy", ("a", "b"), {"train": table.slice(0, 120), "test": table.slice(120)})
    found = {}
    for long_text in ("head", "head+tail", "windows"):
        stage = replace(TUNE, max_length=16, updates=80, long_text=long_text)  # type: ignore[arg-type]
        encoder = new_encoder(Scratch("tiny", vocabulary=512), tokenizer, 48, 0)
        run_stage(encoder, stage, task, masker=RandomTokens(), seed=0)
        found[long_text] = evaluate(encoder, task).value
    assert found["head"] < 0.75
    assert found["head+tail"] > 0.9
    assert found["windows"] > 0.9
