"""Training that diverges: which update and which rows are named, and that nothing of it is kept."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from conftest import make_task
from trivium.core import Stage, Task
from trivium.encoders import Encoder, Scratch
from trivium.errors import TrainingError
from trivium.kinds import Encoded
from trivium.masking import RandomTokens
from trivium.training import encode_documents, loop, run_stage
from trivium.training.divergence import Losses
from trivium.training.loop import StageRun
from trivium.training.turns import DOCUMENTS

TINY = Scratch("tiny", vocabulary=512)
TUNE = Stage("tune", {"task": 1}, updates=150, lr=1e-3, batch_rows=8, max_length=32)  # a look every 3 updates
JOINT = replace(TUNE, name="joint", mix={"documents": 2, "task": 1}, batch_tokens=256)
Fresh = Callable[[Scratch], Encoder]


def a_run(encoder: Encoder, stage: Stage, task: Task, documents: Encoded | None = None) -> StageRun:
    return StageRun(encoder, stage, task.sealed(), documents, RandomTokens(), 0)


def rows_in(message: str, file: str = "train.csv") -> set[int]:
    """The rows that a message names before it shortens them."""
    (found,) = re.findall(rf"{re.escape(file)} rows ([\d, ]+)", message)
    return set(map(int, found.split(", ")))


class Poisoned:
    """A kind of task of which some rows have no loss."""

    def __init__(self, kind: Any, poison: list[int]) -> None:
        self.kind, self.poison = kind, torch.tensor(poison)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kind, name)

    def loss(self, logits: Any, batch: Any, weights: Any) -> Any:
        return torch.where(batch.ids[:, 1] == self.poison[1], math.nan, self.kind.loss(logits, batch, weights))


def poisoned(fresh: Fresh, tokenizer: Any) -> tuple[StageRun, int]:
    """A run over a task of which one row, of a word that no other begins with, has no loss; and that row."""
    task = make_task()
    texts = task.rows("train")["text"].to_pylist()
    texts[17] = "zugzwang " + texts[17]
    table = task.rows("train").set_column(0, "text", pa.array(texts))
    run = a_run(fresh(TINY), TUNE, replace(task, tables={**task.tables, "train": table}))
    encoded = run.streams[task.name].encoded
    ids = [encoded.ids[start : start + 2].tolist() for start in encoded.offsets[:-1]]
    assert [pair[1] for pair in ids].count(ids[17][1]) == 1, "the planted word is one token of its own"
    learned = run.learned[task.name]
    run.learned[task.name] = replace(learned, kind=Poisoned(learned.kind, ids[17]))  # type: ignore[arg-type]
    return run, 17


def test_a_row_without_a_loss_is_named_with_its_batch(fresh: Fresh, tokenizer: Any) -> None:
    run, planted = poisoned(fresh, tokenizer)
    stream = run.streams[run.task.name]
    update = next(n for n in range(run.updates) if planted in stream.rows(n))
    assert (update + 1) % run.log_every != 0 or update > 0, "not simply the update at which somebody looked"
    with pytest.raises(TrainingError) as found:
        loop._drive(run, None, lambda done, total: None)
    said = str(found.value)
    assert f"the loss is no number any more in update {update + 1} of 150 (" in said
    batch, only = said.split(". The loss is no number only of ")
    assert rows_in(batch) == {int(row) + 1 for row in stream.rows(update)}
    assert only.startswith("task 'topics', train.csv rows 18: look")
    assert "Lower the rate (stages: [{name: tune, lr: 0.0003}])" in only


def test_a_rate_far_too_high_is_named_at_its_update(fresh: Fresh, task: Task, documents: Encoded) -> None:
    stage = replace(JOINT, lr=1e6)
    slow = a_run(fresh(TINY), stage, task, documents)
    slow.encoder.train()
    for update in range(slow.updates):  # looks after every update, as the loop does not
        slow.step(update)
        if not math.isfinite(sum(float(value) for value in slow.sums.values())):
            break
    with pytest.raises(TrainingError, match="Lower the rate") as found:
        run_stage(fresh(TINY), stage, task, documents=documents, masker=RandomTokens(), seed=0)
    assert f"in update {update + 1} of 150 (learning rate " in str(found.value)
    ((_, whose, stream, rows),) = slow.read(update)
    if whose == DOCUMENTS:
        assert stream.encoded.origins is not None
        read = re.findall(r"documents ([\d, ]+)", str(found.value))[0]
        assert set(map(int, read.split(", "))) <= set(stream.encoded.origins[rows].tolist())
    else:
        assert rows_in(str(found.value)) == {int(row) + 1 for row in rows}


def test_documents_are_called_as_the_corpus_calls_them(
    fresh: Fresh, task: Task, texts: list[str], tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = 1000 + np.arange(len(texts))[::-1]
    documents = encode_documents(tokenizer, texts, 16, ids)
    assert documents.origins is not None
    assert len(documents) > len(texts), "long ones are several windows"
    assert set(documents.origins) == set(ids)
    run = a_run(fresh(TINY), replace(JOINT, max_length=16, batch_tokens=1024), task, documents)
    real = StageRun._fill_loss
    monkeypatch.setattr(
        StageRun, "_fill_loss", lambda self, *of: real(self, *of) * (math.nan if self.losses.update == 10 else 1.0)
    )
    with pytest.raises(TrainingError) as found:  # its loss was a number, what it asked of the weights was none
        loop._drive(run, None, lambda done, total: None)
    assert "the gradient is no number any more in update 11 of 150" in str(found.value)
    ((_, _, _, rows),) = run.read(10)
    named = re.findall(r"documents ([\d, ]+) and (\d+) more", str(found.value))
    every = set(documents.origins[rows].tolist())
    shown = set(map(int, named[0][0].split(", ")))
    assert shown <= every
    assert (len(shown), int(named[0][1])) == (12, len(every) - 12)


def test_texts_of_the_task_are_called_by_their_rows(fresh: Fresh, task: Task) -> None:
    run = a_run(fresh(TINY), replace(TUNE, mix={"texts": 1}, batch_tokens=128), task)
    run.sums["mlm"] += math.nan
    run.losses.norms.append((3, torch.tensor(math.inf)))
    run.batches["mlm"] = 1
    with pytest.raises(TrainingError, match=r"the gradient is no number .* update 4 of 150") as found:
        run.log_losses()
    ((_, _, stream, rows),) = run.read(3)
    passages, _ = task.passages()
    texts = {passages[stream.encoded.origins[row]] for row in rows}  # type: ignore[index]
    named = {task.texts("train")[row - 1] for row in rows_in(str(found.value))}
    assert named == texts


def test_rows_of_several_files_and_rows_of_none(fresh: Fresh, task: Task) -> None:
    train = task.rows("train")
    files = pa.array(["a.csv" if i % 2 else "b.csv" for i in range(len(train))])
    two = train.set_column(train.column_names.index("file"), "file", files)
    for table, pattern in ((two, r"[ab]\.csv row \d+, "), (train.drop_columns(["file", "row"]), r"train rows \d+, ")):
        run = a_run(fresh(TINY), TUNE, replace(task, tables={**task.tables, "train": table}))
        run.losses.norms.append((0, torch.tensor(math.nan)))
        run.sums["task"] += math.nan
        run.batches["task"] = 1
        with pytest.raises(TrainingError, match=f"It read task 'topics', {pattern}"):
            run.log_losses()


def test_a_loss_that_only_rises_is_stopped_too(fresh: Fresh, task: Task) -> None:
    run = a_run(fresh(TINY), TUNE, task)
    for update, loss in enumerate([1.2, 5e5, 3.0, 5e5, 6e5]):
        run.losses.update = update
        run.batches["task"] = 1
        run._note("task", torch.tensor(loss), torch.tensor([loss] * 8))
        run.losses.norms.append((update, torch.tensor(1.0)))
        if update < 4:
            run.log_losses()  # once is chance
    with pytest.raises(TrainingError, match=r"the loss rose to (5|6)e\+05 in update [45] of 150"):
        run.log_losses()


def test_nothing_is_kept_of_a_model_that_is_broken(
    fresh: Fresh, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)  # after every update
    stage = replace(TUNE, lr=1e6, updates=300)
    said = []
    for _ in range(2):  # the second goes on from what the first left
        with pytest.raises(TrainingError) as found:
            run_stage(fresh(TINY), stage, task, masker=RandomTokens(), seed=0, resume=tmp_path / "resume")
        said.append(str(found.value))
    assert said[0] == said[1]
    update = int(re.findall(r"update (\d+) of", said[0])[0])
    assert 0 < len(list((tmp_path / "resume").glob("update-*"))) <= 2
    assert all(int(one.name[7:]) < update + 1 for one in (tmp_path / "resume").glob("update-*"))


def test_a_gradient_of_the_last_update_before_a_look_is_remembered() -> None:
    losses = Losses()
    for update, norm in enumerate([1.0, math.inf]):
        losses.update = update
        losses.note("task", torch.tensor(1.0), None)
        losses.norms.append((update, torch.tensor(norm)))
    assert not losses.sound
    losses.forget()
    losses.update = 2
    losses.note("task", torch.tensor(math.nan), None)
    fault = losses.fault({})
    assert fault is not None
    assert (fault.update, fault.loss) == (1, None)


def test_a_kind_says_its_loss_row_by_row(fresh: Fresh, task: Task) -> None:
    """What is kept for naming rows is what the loss is the sum of."""
    run = a_run(fresh(TINY), TUNE, task)
    run.step(0)
    (part,) = run.losses.parts
    assert part.rows is not None
    assert part.rows.shape == (len(run.read(0)[0][-1]),)
    assert float(part.loss) == pytest.approx(float(part.rows.mean()), rel=1e-5)
