"""One batch in parts, on one process or several, is one batch; and who reads when follows the mix."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from conftest import Spy
from test_training_kinds import TASKS, TUNE
from trivium.core import Stage, Task
from trivium.errors import ConfigError, TrainingError
from trivium.kinds import Encoded
from trivium.masking import RandomTokens
from trivium.training import Encoder, Scratch, run_stage
from trivium.training.checkpoint import weights_of
from trivium.training.loop import StageRun
from trivium.training.parts import parts
from trivium.training.turns import DOCUMENTS, take_turns

SPEC = Scratch("tiny", vocabulary=512)
MIXED = Stage(
    "mixed", {"documents": 1, "task": 1, "auxiliary": 5}, updates=14, lr=1e-3, batch_rows=6, batch_tokens=256,
    max_length=48, mlm_weight=1.0, sampling="uniform", dropout=0.0, keep_best=False,
)  # fmt: skip


def started(encoder: Encoder, documents: Encoded, stage: Stage = MIXED) -> StageRun:
    task, *others = TASKS.values()
    run = StageRun(encoder.train(), stage, task.sealed(), documents, RandomTokens(), 0, others)
    for layer in (m for m in encoder.modules() if isinstance(m, torch.nn.Dropout)):
        layer.p = 0.0
    return run


def gradients(run: StageRun, limit: int) -> list[dict[str, torch.Tensor]]:
    """Of a batch of every stream, computed in parts of so many tokens."""
    found = []
    run.micro_tokens = limit
    for name, stream in run.streams.items():
        run._add_gradients(run._work(name, stream.batch(0), 0), 0)
        found.append({n: p.grad.clone() for n, p in run.encoder.named_parameters() if p.grad is not None})
        run.optimizer.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("architecture", ["bert", "modernbert"])
def test_accumulating_parts_equals_the_whole_batch(
    architecture: Any, fresh: Callable[[Scratch], Encoder], documents: Encoded
) -> None:
    run = started(fresh(replace(SPEC, architecture=architecture)), documents)
    whole = gradients(run, 10**9)
    for limit in (1, 64, 200):
        for one, other in zip(gradients(run, limit), whole, strict=True):
            assert one.keys() == other.keys()
            for name in one:
                assert_close(one[name], other[name], atol=2e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_processes_share_a_batch_without_gap_or_overlap(
    size: int, fresh: Callable[[Scratch], Encoder], documents: Encoded
) -> None:
    run = started(fresh(SPEC), documents)
    for name, stream in run.streams.items():
        work = run._work(name, stream.batch(0), 0)
        for limit in (1, 100, 10**6):
            pieces = [list(parts(work, limit, rank, size)) for rank in range(size)]
            real = [piece for mine in pieces for piece in mine if piece.fill or piece.answer]
            assert sum(piece.batch.rows for piece in real) == work.batch.rows
            assert torch.equal(torch.cat([piece.batch.ids for piece in real]), work.batch.ids)
            if work.gaps is not None:
                targets = torch.cat([piece.gaps.targets for piece in real if piece.gaps])
                assert torch.equal(targets, work.gaps.targets)
                for piece in real:
                    assert piece.gaps is not None
                    assert torch.equal(piece.batch.ids.flatten()[piece.gaps.positions], piece.gaps.targets)
            assert all(mine for mine in pieces)  # a process without rows computes something that weighs nothing
            assert all(piece.tokens <= limit or piece.batch.rows == 1 for mine in pieces for piece in mine)


def test_out_of_memory_halves_what_is_computed_at_once_and_keeps_the_batch(
    fresh: Callable[[Scratch], Encoder], documents: Encoded, monkeypatch: Any
) -> None:
    """A device that holds 150 tokens: the update is the one that a larger device makes."""
    task, *others = TASKS.values()
    how: dict[str, Any] = {"documents": documents, "auxiliary": others, "masker": RandomTokens(), "seed": 0}
    roomy, tight = fresh(SPEC), fresh(SPEC)
    run_stage(roomy, MIXED, task, **how)
    enough = Encoder.hidden

    def hidden(self: Encoder, batch: Any, ids: Any = None) -> Any:
        if self.training and batch.ids.numel() > 150 and batch.rows > 1:
            raise torch.OutOfMemoryError("no more")
        return enough(self, batch, ids)

    monkeypatch.setattr(Encoder, "hidden", hidden)
    trace = run_stage(tight, MIXED, task, **how)
    halved = [event["micro_tokens"] for event in trace.events if event["event"] == "memory"]
    assert halved
    assert halved == sorted(halved, reverse=True)
    for name, value in weights_of(roomy).items():
        assert_close(value, weights_of(tight)[name], atol=2e-4, rtol=1e-3, msg=name)

    def nothing(self: Encoder, batch: Any, ids: Any = None) -> Any:
        if self.training:
            raise torch.OutOfMemoryError("none at all")
        return enough(self, batch, ids)

    monkeypatch.setattr(Encoder, "hidden", nothing)
    with pytest.raises(TrainingError, match="single text"):
        run_stage(fresh(SPEC), replace(TUNE, updates=1), task, masker=RandomTokens(), seed=0)


SCRIPT = """
import json, os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import torch
torch.set_num_threads(1)
from conftest import make_task, sentence, TOPICS
import numpy as np
from safetensors.torch import save_file
from test_training_parts import MIXED, SPEC, TASKS
from trivium.masking import RandomTokens
from trivium.training import encode_documents, make_tokenizer, new_encoder, run_stage
from trivium.training.checkpoint import weights_of
from trivium.training.parallel import world

out, resume, stop = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(1)
texts = [sentence(rng, rng.choice(list(TOPICS)), length=int(rng.integers(5, 60))) for _ in range(120)]
task, *others = TASKS.values()
tokenizer = make_tokenizer(SPEC, make_task(), texts)
encoder = new_encoder(SPEC, tokenizer, 64, seed=0)
from trivium.training import loop
loop.CHECKPOINT_SECONDS = -1.0 if stop else 1e9

def watch(done, total):
    if done == stop:
        os.kill(os.getpid(), signal.SIGKILL)

trace = run_stage(
    encoder, MIXED, task, documents=encode_documents(tokenizer, texts, 32), auxiliary=others,
    masker=RandomTokens(), seed=0, resume=resume, watch=watch,
)
if world().rank == 0:
    save_file(weights_of(encoder), out / "weights.safetensors")
    (out / "trace.json").write_text(json.dumps(trace.events))
if world().size > 1:
    torch.distributed.destroy_process_group()
"""


def launched(folder: Path, processes: int, stop: int = 0) -> int:
    """Train in so many processes; with ``stop``, until that update, where each kills itself."""
    folder.mkdir(exist_ok=True)
    script = folder / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent)))
    arguments = [str(script), str(folder), str(folder / "resume"), str(stop)]
    run = [sys.executable, *arguments]
    if processes > 1:
        alone = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        run = [sys.executable, *alone, *arguments]
    own = {**os.environ, "OMP_NUM_THREADS": "1", "TRIVIUM_CACHE": str(folder)}
    return subprocess.run(run, check=False, capture_output=not os.environ.get("SHOW"), env=own, timeout=300).returncode


@pytest.mark.slow
def test_two_processes_make_the_updates_of_one_and_go_on_where_they_were_killed(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    assert launched(tmp_path / "one", 1) == 0
    assert launched(tmp_path / "two", 2, stop=10) != 0
    assert [kept.name for kept in (tmp_path / "two" / "resume").iterdir()] == ["update-00000008"]
    assert not (tmp_path / "two" / "weights.safetensors").exists()
    assert launched(tmp_path / "two", 2) == 0
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    # a bias that is added to every choice, or every position, alike has no gradient but rounding
    idle = {f"heads.task-{kind}.classifier.bias" for kind in ("rank", "span")}
    assert idle < set(one)
    for name in set(one) - idle:
        assert (two[name] - one[name]).abs().max() <= 1e-6, name
    first, second = (json.loads((tmp_path / name / "trace.json").read_text()) for name in ("one", "two"))
    assert [event["update"] for event in first] == [event["update"] for event in second]
    for a, b in zip(first, second, strict=True):
        numbers = {key: value for key, value in a.items() if isinstance(value, float)}
        assert numbers == pytest.approx({key: b[key] for key in numbers}, abs=1e-5)


ROWS = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(1, 90), max_size=3)


@given(st.integers(1, 60), ROWS, st.sampled_from(["proportional", "temperature", "uniform"]), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_every_task_gets_its_share_and_every_batch_its_turn(
    rows: int, others: dict[str, int], sampling: Any, documents: int
) -> None:
    if not others:
        return
    mix: dict[Any, int] = {"task": 1, "auxiliary": 1} | ({"documents": documents} if documents else {})
    stage = Stage("s", mix, epochs=3, batch_rows=4, sampling=sampling, auxiliary_cap=40)
    turns = take_turns(stage, {"own": rows, **others}, {}, seed=5)
    seen = [turns.turn(update) for update in range(turns.updates(stage))]
    for name in ("own", DOCUMENTS, *others):
        assert [n for who, n in seen if who == name] == list(range(sum(who == name for who, _ in seen)))
    count = Counter(who for who, _ in seen)
    own = -(-rows // 4)
    assert abs(count["own"] - 3 * own) <= 1
    power = {"proportional": 1.0, "temperature": 0.5, "uniform": 0.0}[sampling]
    for name, many in others.items():
        share = max(1, round(own * (-(-min(many, 40) // 4) / own) ** power))
        assert abs(count[name] - 3 * share) <= 1
    if documents:
        assert abs(count[DOCUMENTS] - documents / 2 * (len(seen) - count[DOCUMENTS])) <= documents


def test_turns_are_in_fresh_order_every_epoch_and_a_function_of_the_seed() -> None:
    stage = Stage("s", {"task": 1, "auxiliary": 1}, epochs=2, batch_rows=1, sampling={"own": 2, "other": 1})
    first, again, other = (take_turns(stage, {"own": 20, "other": 500}, {}, seed) for seed in (0, 0, 1))
    names = [first.turn(update)[0] for update in range(60)]
    assert Counter(names[:30]) == Counter(names[30:]) == {"own": 20, "other": 10}
    assert names[:30] != names[30:]
    assert [again.turn(update)[0] for update in reversed(range(60))] == names[::-1]
    assert [other.turn(update)[0] for update in range(60)] != names


def test_without_sampling_the_mix_decides_and_sizes_share_what_is_auxiliary() -> None:
    stage = Stage("s", {"documents": 2, "task": 1, "auxiliary": 3}, epochs=2, batch_rows=5)
    turns = take_turns(stage, {"own": 50, "small": 50, "large": 100}, {}, 0)
    assert turns.updates(stage) == 2 * 10 * 6
    names = [turns.turn(update)[0] for update in range(120)]
    assert all(names[i : i + 2] == [DOCUMENTS] * 2 for i in range(0, 120, 6))
    assert names[5::6] == ["own"] * 20
    assert Counter(names)["large"] == 2 * Counter(names)["small"]


@pytest.mark.parametrize("ratio", [{"own": 1, "nobody": 1}, {"other": 1}, {"own": 0, "other": 1}])
def test_ratios_must_speak_of_the_tasks_there_are(ratio: dict[str, float]) -> None:
    stage = Stage("s", {"task": 1, "auxiliary": 1}, epochs=1, sampling=ratio)
    with pytest.raises(ConfigError, match="sampling: expected a ratio above 0 for 'own'"):
        take_turns(stage, {"own": 4, "other": 4}, {}, 0)


def test_tasks_beside_need_to_be_there_and_to_differ_in_name(fresh: Callable[[Scratch], Encoder], task: Task) -> None:
    stage = replace(TUNE, mix={"task": 1, "auxiliary": 1})
    with pytest.raises(ConfigError, match="there are none"):
        run_stage(fresh(SPEC), stage, task, masker=RandomTokens(), seed=0)
    with pytest.raises(ConfigError, match="different names"):
        run_stage(fresh(SPEC), stage, task, auxiliary=[task], masker=RandomTokens(), seed=0)


def test_test_rows_of_auxiliary_tasks_stay_sealed(fresh: Callable[[Scratch], Encoder], task: Task) -> None:
    beside = Spy.on(TASKS["tag"])
    stage = replace(TUNE, mix={"task": 1, "auxiliary": 1}, updates=4)
    run_stage(fresh(SPEC), stage, task, auxiliary=[beside], masker=RandomTokens(), seed=0)
    assert set(beside.opened) == {"train"}
