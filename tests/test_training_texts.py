"""The stream of a task's own texts, and the encoders and maskers that are made ready with them."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from conftest import Spy, make_task, sentence
from trivium.core import Corpus, Selection, Stage, Task
from trivium.encoders.streams import padded_tokens
from trivium.errors import ConfigError
from trivium.kinds import Encoded
from trivium.kinds.text import tokenize
from trivium.masking import Batch, Draw, Known, Masker, RandomTokens, WholeWord
from trivium.masking.words import Occurrences, WordTable
from trivium.training import (
    Encoder,
    Recipe,
    Scratch,
    StudyModels,
    evaluate,
    loop,
    make_ready,
    make_tokenizer,
    masks,
    new_encoder,
    recipes,
    run_stage,
    train,
)
from trivium.training.checkpoint import weights_of
from trivium.training.loop import StageRun
from trivium.training.turns import TEXTS, planned_updates

Fresh = Callable[[Scratch], Encoder]
TINY = Scratch("tiny", vocabulary=512)
TAPT = Stage("tapt", {"texts": 1}, updates=9, lr=1e-3, batch_tokens=256, max_length=16, dropout=0.1)
BOTH = Stage("both", {"documents": 2, "texts": 1, "task": 1}, updates=9, lr=1e-3, batch_tokens=256, dropout=0.1)


def texts_task(texts: list[str], pairs: list[str] | None = None, kind: str = "classify") -> Task:
    columns: dict[str, Any] = {"text": texts, "label": [0] * len(texts)}
    if pairs is not None:
        columns["text_pair"] = pairs
    return Task("t", kind, "accuracy", ("a", "b"), {"train": pa.table(columns)})


def run(encoder: Encoder, stage: Stage, task: Task, documents: Encoded | None, **more: Any) -> Any:
    return run_stage(encoder, stage, task, documents=documents, masker=RandomTokens(), seed=0, **more)


@given(st.lists(st.text("abc", max_size=2), min_size=1, max_size=30))
@settings(deadline=None)
def test_passages_are_the_distinct_texts_and_rows_know_theirs(texts: list[str]) -> None:
    passages, of_row = texts_task(texts).passages()
    assert len(set(passages)) == len(passages)
    assert [passages[i] for i in of_row] == texts
    assert passages == sorted(passages, key=texts.index), "in the order of first appearance"


def test_of_questions_the_passages_are_the_contexts_and_of_pairs_both_texts() -> None:
    asked, told = ["who", "when", "where"], ["in 1900 he", "in 1900 he", "she"]
    passages, of_row = texts_task(asked, told, kind="span").passages()
    assert (passages, of_row.tolist()) == (["in 1900 he", "she"], [0, 0, 1])
    assert texts_task(asked, told).passages()[0] == ["who\nin 1900 he", "when\nin 1900 he", "where\nshe"]


@pytest.fixture(scope="module")
def shell(tokenizer: Any) -> Encoder:
    """One encoder for all examples: making it takes longer than what is asked of it."""
    return new_encoder(TINY, tokenizer, 64, seed=0)


@given(
    st.lists(st.lists(st.sampled_from(["rook", "tide", "salt", "gambits"]), max_size=40), min_size=1, max_size=12),
    st.integers(1, 300),
    st.integers(0, 3),
)
@settings(max_examples=25, deadline=None)
def test_a_pass_reads_every_distinct_text_whole_and_once(
    tokenizer: Any, shell: Encoder, words: list[list[str]], budget: int, seed: int
) -> None:
    task = texts_task([" ".join(line) for line in [*words, *words[::2]]])
    stage = replace(TAPT, batch_tokens=budget)
    stream = StageRun(shell, stage, task, None, RandomTokens(), seed).streams[TEXTS]
    batches, read = 0, list[tuple[int, ...]]()
    while batches == 0 or (stream._first == 0 and batches < len(stream._plan)):
        batch = stream.batch(batches)
        assert batch.labels is None
        read += [tuple(row[there].tolist()) for row, there in zip(batch.ids, batch.attention, strict=True)]
        batches += 1
    whole = tokenize(tokenizer, task.passages()[0], stage.max_length, windows=True)
    expected = [tuple(whole.ids[a:b].tolist()) for a, b in zip(whole.offsets[:-1], whole.offsets[1:], strict=True)]
    assert sorted(read) == sorted(expected)
    uncut = tokenize(tokenizer, task.passages()[0], 10_000)
    special = set(tokenizer.all_special_ids)
    assert [i for i in whole.ids.tolist() if i not in special] == [i for i in uncut.ids.tolist() if i not in special]


@pytest.mark.parametrize("stage", [TAPT, BOTH], ids=["tapt", "both"])
def test_resuming_equals_never_stopping(
    fresh: Fresh, task: Task, documents: Encoded, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)  # a checkpoint after every update

    class KilledError(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done == 6:
            raise KilledError

    whole, again = fresh(TINY), fresh(TINY)
    told = run(whole, stage, task, documents)
    with pytest.raises(KilledError):
        run(fresh(TINY), stage, task, documents, resume=tmp_path, watch=kill)
    retold = run(again, stage, task, documents, resume=tmp_path)
    assert replace(retold, seconds=0) == replace(told, seconds=0)
    assert told.hidden > 0
    for name, value in weights_of(whole).items():
        assert torch.equal(value, weights_of(again)[name]), name


def test_an_epoch_is_a_pass_over_the_texts_where_nothing_labelled_is_read(
    fresh: Fresh, task: Task, documents: Encoded
) -> None:
    texts = tokenize(fresh(TINY).tokenizer, task.passages()[0], 16, windows=True)
    sizes: Any = {"texts": padded_tokens(texts), "documents": padded_tokens(documents)}
    for mix, cycle in (({"texts": 1}, 1), ({"documents": 3, "texts": 1}, 4)):
        stage = replace(TAPT, mix=mix, updates=None, epochs=2.5)
        expected = math.ceil(2.5 * math.ceil(sizes["texts"] / 256) * cycle)
        assert planned_updates(stage, 60, sizes) == expected
        made = StageRun(fresh(TINY), stage, task.sealed(), documents, RandomTokens(), 0)
        assert made.updates == expected
    stage = replace(TAPT, mix={"texts": 5, "task": 1}, batch_rows=6, updates=None, epochs=1)
    assert planned_updates(stage, 60, sizes) == 60, "the task leads where it takes part"


def test_what_is_counted_as_hidden_is_the_rate_of_what_could_be(fresh: Fresh, task: Task) -> None:
    for rate in (0.15, 0.4):
        trace = run_stage(fresh(TINY), replace(TAPT, updates=30), task, masker=RandomTokens(rate), seed=0)
        assert trace.hidden / trace.maskable == pytest.approx(rate, abs=0.01)
        assert trace.maskable < trace.tokens, "special tokens are never hidden"
    half = replace(TAPT, mix={"texts": 1, "task": 1}, updates=30)
    joint = run_stage(fresh(TINY), half, task, masker=RandomTokens(0.4), seed=0)
    assert joint.hidden / joint.maskable == pytest.approx(0.4, abs=0.01)
    assert joint.maskable < 0.8 * joint.tokens, "batches whose text is left whole do not count"
    tuned = run_stage(fresh(TINY), Stage("tune", {"task": 1}, updates=2), task, masker=RandomTokens(), seed=0)
    assert (tuned.maskable, tuned.hidden) == (0, 0)


def test_labels_and_held_out_rows_do_not_matter_to_it(fresh: Fresh, task: Task) -> None:
    train_rows = task.rows("train")
    moved = np.roll(train_rows["label"].to_numpy(), 1)
    place = train_rows.column_names.index("label")
    other = replace(task, tables={"train": train_rows.set_column(place, "label", pa.array(moved))})
    first, second = fresh(TINY), fresh(TINY)
    run(first, TAPT, task, None)
    run(second, TAPT, other, None)
    for part in ("backbone", "mlm"):
        for name, value in weights_of(getattr(first, part)).items():
            assert torch.equal(value, weights_of(getattr(second, part))[name]), name
    assert all(weight.grad is None for weight in first.heads.parameters()), "nothing of a task's head learns"


def test_parts_make_the_whole(fresh: Fresh, task: Task) -> None:
    whole, cut = fresh(TINY), fresh(TINY)
    stage = replace(TAPT, dropout=0.0, updates=3)
    run(whole, stage, task, None)
    run(cut, replace(stage, micro_tokens=32), task, None)
    for name, value in weights_of(whole).items():
        assert_close(value, weights_of(cut)[name], atol=2e-4, rtol=1e-3, msg=name)


@pytest.mark.parametrize("name", ["texts", "documents", "task"])
def test_a_task_may_be_called_like_a_stream(fresh: Fresh, task: Task, documents: Encoded, name: str) -> None:
    called = replace(task, name=name)
    trace = run(fresh(TINY), BOTH, called, documents)
    losses = [event for event in trace.events if event["event"] == "loss"]
    assert any(event["task"] is not None for event in losses)
    assert any(event["mlm"] is not None for event in losses)


def test_a_stage_on_texts_needs_a_head_for_gaps_and_leaves_one(fresh: Fresh, task: Task) -> None:
    encoder = fresh(TINY)
    encoder.unlearned = frozenset({"head.dense.weight"})
    assert masks([TAPT])
    run(encoder, TAPT, task, None)
    assert encoder.unlearned == frozenset()


def test_the_recipe_of_tapt() -> None:
    for spec in ("tiny", "bert-base-uncased"):
        tapt, tune = recipes.tapt(spec, epochs=3).stages
        assert (tapt.mix, tapt.epochs, tapt.updates) == ({"texts": 1}, 3, None)
        assert (tapt.lr, tapt.batch_tokens) == tuple(
            getattr(recipes.adapt(spec).stages[0], key) for key in ("lr", "batch_tokens")
        )
        assert tune == recipes.finetune(spec).stages[0]
    assert not recipes.tapt("tiny").reads()
    assert recipes.adapt("tiny", mix={"documents": 3, "texts": 1}).reads()


# ---------------------------------------------------------------- encoders that maskers ask


def models_of(task: Task, tokenizer: Any, **more: Any) -> StudyModels:
    return StudyModels(TINY, tokenizer, task, task.passages()[0], **{"max_length": 32, "updates": 30, **more})


def gap_loss(encoder: Encoder, task: Task) -> float:
    """Mean loss of hidden tokens over a pass that learns nothing."""
    stage = replace(TAPT, updates=8, lr=0.0, dropout=None, weight_decay=0.0)
    (last,) = [e for e in run(encoder, stage, task, None).events if e["event"] == "loss"][-1:]
    return float(last["mlm"])


def test_models_know_more_at_each_step_and_look_at_no_held_out_row(task: Task, tokenizer: Any, fresh: Fresh) -> None:
    spy = Spy.on(task)
    models = models_of(spy, tokenizer, epochs=12)
    language, adapted = models.language(), models.adapted()
    tuned = models.finetuned(spy)
    assert set(spy.opened) == {"train"}
    blank, knows, best = (gap_loss(encoder, task) for encoder in (fresh(TINY), language, adapted))
    assert best < knows < blank - 0.5
    train_rows = replace(task, tables={"dev": task.rows("train")})
    assert evaluate(tuned, train_rows, split="dev").values["accuracy"] > 0.6
    assert not tuned.training


def test_whoever_gets_a_model_may_change_it(task: Task, tokenizer: Any) -> None:
    models = models_of(task, tokenizer, updates=2)
    for ask in (models.language, models.adapted, lambda: models.finetuned(task)):
        first = ask()
        before = weights_of(first)
        with torch.no_grad():
            next(first.backbone.parameters()).zero_()
        first.add_head(replace(task, name="more"))
        second = ask()
        assert not second.has_head("more")
        for name, value in weights_of(second).items():
            assert torch.equal(value, before[name]), name


def test_models_are_a_function_of_the_seed(task: Task, tokenizer: Any) -> None:
    one, same, other = (weights_of(models_of(task, tokenizer, updates=2, seed=s).adapted()) for s in (3, 3, 4))
    assert all(torch.equal(value, same[name]) for name, value in one.items())
    assert not all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_stage_for_those_who_train_models_themselves(task: Task, tokenizer: Any) -> None:
    stage = models_of(task, tokenizer).stage("finetune", name="mine", epochs=1)
    assert (stage.name, stage.epochs, stage.max_length) == ("mine", 1, 32)
    assert stage.lr == recipes.finetune(TINY).stages[0].lr


# ---------------------------------------------------------------- maskers that learn first


@dataclass(frozen=True)
class Common(Draw):
    """Hides the words that are most common in what will be hidden in, as against general text if there is some."""

    compares: ClassVar[bool] = True
    seen: ClassVar[list[Known]] = []

    def fit(self, known: Known) -> Masker:
        self.seen.append(known)
        counts, words = np.unique(Occurrences.of(known.encoded, self.unit).keys, return_counts=True)[::-1]
        scores = {int(word): float(np.log(n)) for word, n in zip(words, counts, strict=True)}
        return self.by(WordTable.of(scores, dict.fromkeys(scores, ""), 0.0))


@dataclass(frozen=True)
class Chance(Common):
    """Says that it draws at random."""

    seeded: ClassVar[bool] = True


class Nosy(WholeWord):
    """Remembers what it hid in."""

    batches: ClassVar[list[Batch]] = []

    def choose(self, batch: Batch, rng: torch.Generator) -> torch.Tensor:
        self.batches.append(batch)
        return super().choose(batch, rng)


@pytest.fixture
def seen() -> list[Known]:
    Common.seen.clear()
    return Common.seen


def selection_of(texts: list[str], chosen: list[int]) -> Selection:
    table = pa.table(
        {
            "text": pa.array(texts, pa.large_string()),
            "source": pa.array(["s"] * len(texts)).dictionary_encode(),
            "words": pa.array([len(text.split()) for text in texts], pa.int32()),
        }
    )
    ids = np.array(chosen)
    none = np.zeros(len(ids))
    corpus = Corpus("c", "f", table)
    return Selection(ids, none, ids, np.full(len(ids), -1), ((),) * len(ids), corpus=corpus)


def test_train_lets_a_masker_learn_from_what_it_may_know(task: Task, texts: list[str], seen: list[Known]) -> None:
    spy = Spy.on(task)
    given_away = task.texts("test")[0]
    read = selection_of([*texts, given_away], [5, 3])
    stages = (replace(TAPT, mix={"documents": 1, "texts": 1}, updates=2), Stage("tune", {"task": 1}, updates=2))
    train(spy, Recipe(stages), encoder=TINY, documents=read, masker=Common(), seed=7)
    (known,) = seen
    assert set(known.task.tables) == {"train"}
    assert list(known.texts) == [*task.passages()[0], texts[5], texts[3]]
    assert set(known.background) <= set(texts)
    assert len(known.background) > 50
    assert given_away not in known.background
    assert known.seed == 0, "what it learns is the same for all seeds"
    train(spy, Recipe(stages), encoder=TINY, documents=read, masker=Chance(), background=["mine"], seed=7)
    assert (seen[-1].seed, list(seen[-1].background)) == (7, ["mine"])


def test_a_masker_learns_only_where_something_is_hidden(task: Task, seen: list[Known]) -> None:
    spy = Spy.on(task)
    tune = Stage("tune", {"task": 1}, updates=2)
    train(spy, Recipe((tune,), Common()), encoder=TINY)
    assert not seen
    train(spy, Recipe((replace(TAPT, updates=2), tune), Common()), encoder=TINY)
    assert [list(known.background) for known in seen] == [[]]
    assert "test" not in spy.opened


def test_every_stage_asks_the_masker_that_was_made_ready(task: Task, tokenizer: Any) -> None:
    @dataclass(frozen=True)
    class Becomes(Draw):
        def fit(self, known: Known) -> Masker:
            return Nosy(0.3)

    Nosy.batches.clear()
    stages = (replace(TAPT, updates=2), Stage("tune", {"task": 1}, updates=1))
    train(task, Recipe(stages, Becomes()), encoder=TINY)
    assert len(Nosy.batches) == 2


def test_only_who_asks_is_told_where_to_go_on_and_whom_to_tell(task: Task, tokenizer: Any, tmp_path: Path) -> None:
    given: list[Mapping[str, Any]] = []

    @dataclass(frozen=True)
    class Long(Draw):
        def fit(self, known: Known, *, resume: Path | None = None, watch: Any = None) -> Masker:
            given.append({"resume": resume, "watch": watch})
            return WholeWord()

    @dataclass(frozen=True)
    class Brief(Draw):
        def fit(self, known: Known) -> Masker:
            return WholeWord()

    known = Known.of(task, ["a"], tokenizer, models_of(task, tokenizer))
    watch = lambda done, total: None  # noqa: E731
    assert make_ready(WholeWord(0.4), known, resume=tmp_path, watch=watch) == WholeWord(0.4)
    assert make_ready(Brief(), known, resume=tmp_path, watch=watch) == WholeWord()
    make_ready(Long(), known, resume=tmp_path, watch=watch)
    make_ready(Long(), known)
    assert given == [{"resume": tmp_path, "watch": watch}, {"resume": None, "watch": None}]


def test_filling_gaps_in_its_texts_helps_where_labels_are_few() -> None:
    """A planted signal: words of a topic stand together, few rows are labelled, and texts are many."""
    rng = np.random.default_rng(0)
    task = make_task(9, dev=3, test=60, purity=0.4)
    more = [sentence(rng, topic, purity=0.4) for topic in task.labels for _ in range(120)]
    column = {"text": more, "label": [0] * len(more)}
    unlabelled = replace(task, tables={"train": pa.table(column)})
    tokenizer = make_tokenizer(TINY, unlabelled, task.texts("train"))
    encoder = new_encoder(TINY, tokenizer, 64, seed=0)
    run(encoder, replace(TAPT, updates=80, lr=3e-3, batch_tokens=512, max_length=32), unlabelled, None)
    blank = new_encoder(TINY, tokenizer, 64, seed=0)
    tune = Stage("tune", {"task": 1}, updates=20, lr=1e-3, batch_rows=9, max_length=32, evaluate_every=20)
    scores = [(run(one, tune, task, None), evaluate(one, task).value)[1] for one in (blank, encoder)]
    assert scores[1] > scores[0] + 0.1


def test_an_unknown_stream_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="known are task, documents, texts, auxiliary"):
        Stage("s", {"text": 1}, updates=3)  # type: ignore[dict-item]
