"""Checkpoints: what is taken is what was written, damage is passed over, and a killed run ends as one that was not."""

import contextlib
import json
import logging
import os
import runpy
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from safetensors.torch import save as serialise
from torch import Tensor, nn

from trivium import seeds
from trivium.errors import ArtifactError
from trivium.training import checkpoint
from trivium.training.checkpoint import put_weights, restore, save, weights_of

FILES = ["best.safetensors", "manifest.json", "optimizer.safetensors", "state.json", "weights.safetensors"]


class Odd(nn.Module):
    """A stranger's model: tied weights, statistics that move, two dtypes, a scalar, other strides, one that rests."""

    def __init__(self, seed: int = 0, wide: int = 4) -> None:
        super().__init__()
        with seeds.torch_scope(seed, "odd"):
            self.body, self.out = nn.Linear(wide, wide), nn.Linear(wide, wide)
            self.narrow = nn.Linear(wide, 2, dtype=torch.bfloat16)
            self.turned = nn.Parameter(torch.randn(3, wide).t())
        self.out.weight = self.body.weight
        self.norm = nn.BatchNorm1d(wide)
        self.scale, self.rests = nn.Parameter(torch.tensor(1.5)), nn.Parameter(torch.ones(3))
        self.register_buffer("passing", torch.zeros(2), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.out(self.norm(self.body(inputs)).tanh()) * self.scale
        return self.narrow(hidden.bfloat16()).float().square().mean() + (hidden @ self.turned).square().mean()


def adamw(model: nn.Module, **more: Any) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), **{"lr": 1e-2, "fused": True, **more})


def train(model: nn.Module, optimizer: torch.optim.Optimizer, begin: int, end: int) -> None:
    for update in range(begin, end):
        model(torch.randn(6, 4, generator=seeds.torch_rng(0, "inputs", update))).backward()
        optimizer.step()
        optimizer.zero_grad()


def everything(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights, buffers and the optimiser's slots, copied."""
    slots = optimizer.state_dict()["state"]
    return weights_of(model) | {f"{i}.{k}": v.clone() for i, slot in slots.items() for k, v in slot.items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        value.dtype == other[name].dtype and value.device == other[name].device and torch.equal(value, other[name])
        for name, value in one.items()
    )


def loop_state(updates: int) -> dict[str, Any]:
    return {"trace": {"updates": updates, "events": [{"loss": 0.1 + updates}]}, "sums": {"task": 1 / 3}}


def best_at(update: int) -> dict[str, Tensor]:
    return {"first": torch.full((3,), float(update)), "second": torch.tensor(update)}


class Writer:
    """A run that wrote checkpoints, and what there was to be written at each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = Odd()
        self.optimizer = adamw(self.model)
        self.then: dict[int, dict[str, Tensor]] = {}
        self.done = 0

    def go(self, *updates: int, best: int | None = None) -> None:
        """Train to each of these updates, and save there; the best weights are of that update, or another."""
        for update in updates:
            train(self.model, self.optimizer, self.done, update)
            self.done = update
            self.then[update] = everything(self.model, self.optimizer)
            chosen = best_at(update if best is None else best)
            save(self.folder, self.model, self.optimizer, chosen, loop_state(update))

    def found(self, folder: Path | None = None) -> int | None:
        """At which update a new run would go on; all that it took must be what was written there."""
        model = Odd(seed=1)
        optimizer = adamw(model)
        taken = restore(folder or self.folder, model, optimizer)
        if taken is None:
            return None
        best, state = taken
        update: int = state["trace"]["updates"]
        assert state == loop_state(update)
        assert same(everything(model, optimizer), self.then[update])
        assert best is not None
        return update


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def kept(folder: Path) -> list[int]:
    return [int(name.removeprefix("update-")) for name in names(folder)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk; what is told to go there, and when, is tested by ``test_all_is_on_the_disk…``."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path / "stage")


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    caplog.set_level(logging.WARNING, "trivium")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "trivium"]


@pytest.mark.parametrize("how", [{"fused": True}, {"fused": False}, {"fused": True, "amsgrad": True}], ids=str)
def test_going_on_equals_never_stopping(tmp_path: Path, how: dict[str, bool]) -> None:
    whole, stopped, again = Odd(), Odd(), Odd(seed=1)
    optimizers = [adamw(model, **how) for model in (whole, stopped, again)]
    train(whole, optimizers[0], 0, 12)
    train(stopped, optimizers[1], 0, 5)
    save(tmp_path, stopped, optimizers[1], None, loop_state(5))
    assert restore(tmp_path, again, optimizers[2]) == (None, loop_state(5))
    train(again, optimizers[2], 5, 12)
    assert same(everything(whole, optimizers[0]), everything(again, optimizers[2]))
    assert again.norm.num_batches_tracked == 12


def test_moments_keep_their_own_dtype_and_the_strides_of_their_weights(tmp_path: Path) -> None:
    model, again = Odd(), Odd(seed=1)
    optimizer, other = adamw(model), adamw(again)
    train(model, optimizer, 0, 3)
    exact = optimizer.state[model.narrow.weight]
    exact["exp_avg"] = torch.full((2, 4), 1 + 2.0**-20)  # more than bfloat16 can say
    save(tmp_path, model, optimizer, None, loop_state(3))
    restore(tmp_path, again, other)
    assert same(everything(model, optimizer), everything(again, other))
    assert other.state[again.turned]["exp_avg"].stride() == again.turned.stride() != (3, 1)


def test_weights_and_the_buffers_of_the_state_are_copied_once_each() -> None:
    model, other = Odd(), Odd(seed=1)
    copied = weights_of(model)
    assert set(copied) == set(model.state_dict()) - {"out.weight"}
    put_weights(other, copied)
    assert same(weights_of(other), copied)
    train(model, adamw(model), 0, 1)
    assert not torch.equal(copied["norm.running_mean"], weights_of(model)["norm.running_mean"])


@given(updates=st.sets(st.integers(1, 10**9), min_size=1, max_size=5))
@settings(max_examples=15, deadline=None)
def test_the_last_two_are_kept_and_the_newest_is_taken(
    updates: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, model = tmp_path_factory.mktemp("stage"), nn.Linear(2, 1)
    optimizer = adamw(model)
    (folder / "notes.txt").write_text("mine")
    for update in sorted(updates):
        save(folder, model, optimizer, None, loop_state(update))
    expected = {f"update-{update:08d}" for update in sorted(updates)[-2:]}
    assert set(names(folder)) == expected | {"notes.txt"}
    assert restore(folder, model, optimizer) == (None, loop_state(max(updates)))


def test_nothing_is_there_yet(tmp_path: Path, warnings: Callable[[], list[str]]) -> None:
    model = Odd()
    before = weights_of(model)
    assert restore(tmp_path / "nowhere", model, adamw(model)) is None
    assert same(before, weights_of(model))
    assert not warnings()


def test_best_weights_that_did_not_change_are_written_once(writer: Writer) -> None:
    writer.go(1, 2, best=1)
    files = [writer.folder / f"update-0000000{update}" / "best.safetensors" for update in (1, 2, 3, 4)]
    assert files[1].samefile(files[0])
    writer.go(3, best=1)  # takes the first away
    assert files[2].samefile(files[1])
    assert load_file(files[2])["second"] == 1
    writer.go(4)
    assert not files[3].samefile(files[2])
    assert (load_file(files[2])["second"], load_file(files[3])["second"]) == (1, 4)
    again = Odd()
    taken = restore(writer.folder, again, adamw(again))
    assert taken is not None
    assert taken[0] is not None
    assert same(taken[0], best_at(4))
    save(writer.folder, again, adamw(again), taken[0], loop_state(5))  # a run that was started again shares it too
    assert (writer.folder / "update-00000005" / "best.safetensors").samefile(files[3])


def test_a_disk_without_hard_links(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    writer.go(1, 2, best=1)
    first, second = (writer.folder / f"update-0000000{update}" / "best.safetensors" for update in (1, 2))
    assert first.read_bytes() == second.read_bytes()
    assert not first.samefile(second)
    assert writer.found() == 2


def shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [Path.unlink, shorter, longer, flipped, emptied])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_one_is_passed_over(
    name: str, damage: Callable[[Path], Any], writer: Writer, warnings: Callable[[], list[str]]
) -> None:
    writer.go(3, 5)
    newest = writer.folder / "update-00000005"
    assert names(newest) == FILES
    damage(newest / name)
    assert writer.found() == 3
    (said,) = warnings()
    assert str(newest) in said
    assert name in said or name == "manifest.json"  # a manifest with a flipped bit accuses the file it is wrong about
    if name != "manifest.json":
        fault = {Path.unlink: "is not there", flipped: "digest"}.get(damage, "bytes, found")
        assert fault in said


@pytest.mark.parametrize("content", ["[]", "{}", "null", '{"state.json": 3}', '{"state.json": {"bytes": 1}}', "{\xff"])
def test_a_manifest_may_be_anything(content: str, writer: Writer, warnings: Callable[[], list[str]]) -> None:
    writer.go(3, 5)
    (writer.folder / "update-00000005" / "manifest.json").write_bytes(content.encode("latin-1"))
    assert writer.found() == 3
    assert len(warnings()) == 1


def test_an_empty_folder_and_a_file_are_passed_over(writer: Writer, warnings: Callable[[], list[str]]) -> None:
    writer.go(3)
    (writer.folder / "update-00000004").mkdir()
    (writer.folder / "update-00000005").write_text("")
    assert writer.found() == 3
    assert len(warnings()) == 2
    assert "manifest.json is not there" in warnings()[1]


@given(file=st.sampled_from(FILES), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_flipped_bit_is_believed(
    file: str, place: float, bit: int, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    writer = Writer(tmp_path_factory.mktemp("stage"))
    writer.go(3, 5)
    path = writer.folder / "update-00000005" / file
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    found = writer.found()  # which compares all it took with what was written
    assert found == (5 if not caplog.records else 3)
    assert found == 3 or file == "manifest.json"  # where white space may turn into other white space


def test_where_none_is_whole_it_starts_from_the_beginning(writer: Writer, warnings: Callable[[], list[str]]) -> None:
    writer.go(3, 5)
    for one in writer.folder.iterdir():
        shorter(one / "state.json")
    model = Odd()
    optimizer = adamw(model)
    before = everything(model, optimizer)
    assert restore(writer.folder, model, optimizer) is None
    assert same(before, everything(model, optimizer))
    assert len(warnings()) == 3
    assert "starts from the beginning" in warnings()[2]


def test_damaged_ones_do_not_drive_out_whole_ones(writer: Writer) -> None:
    writer.go(3, 5)
    emptied(writer.folder / "update-00000005" / "state.json")
    shutil.copytree(writer.folder / "update-00000005", writer.folder / "update-00000009")
    writer.go(7)  # a run that went on from 3, and whose saves fall elsewhere
    assert kept(writer.folder) == [3, 7]
    writer.go(8)
    assert kept(writer.folder) == [7, 8]


def test_a_damaged_one_is_written_again(writer: Writer) -> None:
    writer.go(3, 5)
    emptied(writer.folder / "update-00000005" / "weights.safetensors")
    writer.go(5)
    assert kept(writer.folder) == [3, 5]
    assert writer.found() == 5


class Renamed(Odd):
    def __init__(self) -> None:
        super().__init__()
        self.gone = self.turned
        del self.turned


class Fewer(Odd):
    def __init__(self) -> None:
        super().__init__()
        del self.rests


def some(which: slice) -> Callable[[nn.Module], torch.optim.Optimizer]:
    return lambda model: torch.optim.AdamW(list(model.parameters())[which])


OTHERS: dict[str, tuple[nn.Module, Callable[[nn.Module], torch.optim.Optimizer], str]] = {
    "wider": (Odd(wide=5), adamw, r"weight turned expected float32 \[5, 3\], found float32 \[4, 3\]"),
    "renamed": (Renamed(), adamw, r"2 that differ: for weight gone expected float32 \[4, 3\], found nothing"),
    "fewer": (Fewer(), adamw, r"1 that differ: for weight rests expected nothing, found float32 \[3\]"),
    "dtype": (Odd().float(), adamw, r"weight narrow.weight expected float32 \[2, 4\], found bfloat16 \[2, 4\]"),
    "other slots": (Odd(), some(slice(1, None)), "optimiser slot 0 expected scale, found turned"),
    "fewer slots": (
        Odd(),
        some(slice(None, -1)),
        "9 optimiser slots, found one with 10, and 1 that differ: .* nothing",
    ),
    "slots in another order": (Odd(), some(slice(None, None, -1)), "optimiser slot 0 expected norm.bias"),
}


@pytest.mark.parametrize(("model", "make", "said"), OTHERS.values(), ids=OTHERS)
def test_one_of_another_model_is_refused_and_nothing_is_changed(
    model: nn.Module, make: Callable[[nn.Module], torch.optim.Optimizer], said: str, writer: Writer
) -> None:
    writer.go(3)
    optimizer = make(model)
    before = everything(model, optimizer)
    with pytest.raises(ArtifactError, match=said) as caught:
        restore(writer.folder, model, optimizer)
    assert f"Delete the folder {writer.folder}," in str(caught.value)
    assert same(before, everything(model, optimizer))


class KilledError(BaseException):
    """The process is gone: nothing that it would do after this reaches the disk."""


class Death:
    """Makes the n-th operation on the disk, half done, the last."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.patch, self.at, self.count = monkeypatch, at, 0
        for name in ("mkdir", "rename", "link", "unlink", "rmdir", "fsync"):
            self.mortal(os, name)
        write = Path.write_bytes
        self.mortal(Path, "write_text", lambda path, text, **_: write(path, text.encode()[: len(text) // 2]))
        self.mortal(Path, "write_bytes", lambda path, content: write(path, content[: len(content) // 2]))
        self.mortal(checkpoint, "save_file", lambda tensors, path: write(path, serialise(tensors)[:100]))

    def mortal(self, owner: Any, name: str, half: Callable[..., Any] = lambda *_, **__: None) -> None:
        whole = getattr(owner, name)

        def act(*args: Any, **more: Any) -> Any:
            self.count += 1
            if self.count == self.at:
                half(*args, **more)
            if self.count >= self.at:
                raise KilledError
            return whole(*args, **more)

        self.patch.setattr(owner, name, act)


@pytest.mark.parametrize("best", [2, 3], ids=["old best", "new best"])
def test_a_writer_that_is_killed_anywhere_leaves_a_whole_one(best: int, tmp_path: Path) -> None:
    writer = Writer(tmp_path / "first")
    writer.go(1, 2)
    found: list[int | None] = []
    for at in range(1, 1000):
        writer.folder = tmp_path / f"killed-{at}"
        shutil.copytree(tmp_path / "first", writer.folder)
        with pytest.MonkeyPatch.context() as patch:
            death = Death(patch, at)
            with contextlib.suppress(KilledError):
                writer.go(3, best=best)
        found.append(writer.found())
        if death.count < at:
            break
        writer.go(4, best=best)  # whoever comes next clears up
        assert kept(writer.folder) == [found[-1], 4]
        assert writer.found() == 4
        writer.done, writer.model = 2, Odd(seed=1)
        writer.optimizer = adamw(writer.model)
        restore(tmp_path / "first", writer.model, writer.optimizer)
    assert len(found) > 15
    assert found == sorted(found, key=lambda update: update or 0)  # the rename is the one moment that counts
    assert set(found) == {2, 3}


def test_all_is_on_the_disk_before_it_has_its_name(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, str]] = []
    opened: dict[int, str] = {}
    open_, rename, rmtree = os.open, os.rename, shutil.rmtree

    def note_open(path: Any, *args: Any, **more: Any) -> int:
        handle = open_(path, *args, **more)
        opened[handle] = Path(path).name
        return handle

    def note_rename(source: Any, target: Any) -> None:
        told.append(("rename", Path(target).name))
        opened.clear()
        rename(source, target)

    def note_delete(folder: Any, **more: Any) -> None:
        told.append(("delete", Path(folder).name))
        rmtree(folder, **more)

    writer.go(1, 2)
    monkeypatch.setattr(os, "open", note_open)
    monkeypatch.setattr(os, "rename", note_rename)
    monkeypatch.setattr(os, "fsync", lambda handle: told.append(("sync", opened[handle])))
    monkeypatch.setattr(shutil, "rmtree", note_delete)
    writer.go(3)
    monkeypatch.undo()
    place = told.index(("rename", "update-00000003"))
    synced = [name for what, name in told[:place] if what == "sync"]
    assert sorted(synced)[1:] == FILES
    assert synced[-1].startswith(".tmp-update-00000003-")
    assert told[place + 1] == ("sync", "stage")
    assert told.index(("delete", "update-00000001")) > place + 1


LIVES = textwrap.dedent(
    """
    '''Reads lines from stdin; each is a run of one stage, in a process of its own that may be killed.'''
    import json, os, sys
    from dataclasses import asdict, replace
    from pathlib import Path

    import numpy as np
    import pyarrow as pa
    import torch
    import transformers.models.bert.modeling_bert
    from safetensors.torch import save_file
    from transformers import BertConfig, BertForMaskedLM

    from conftest import TOPICS, make_task, sentence
    from trivium import seeds
    from trivium.core import Stage
    from trivium.masking import RandomTokens
    from trivium.training import Encoder, Scratch, encode_documents, loop, make_tokenizer, run_stage
    from trivium.training.checkpoint import weights_of

    STAGE = Stage("joint", {"documents": 1, "task": 1}, updates=UPDATES, lr=3e-3, mlm_weight=1.0, batch_tokens=256,
                  batch_rows=8, max_length=32, dropout=0.1, evaluate_every=6)


    def turned(rows):
        '''Labelled otherwise: the more is learned, the worse it looks, so that the best look is not the last.'''
        return rows.set_column(rows.column_names.index("label"), "label", pa.array((rows["label"].to_numpy() + 1) % 3))


    def live(out, resume):
        task, rng = make_task(), np.random.default_rng(1)
        task = replace(task, tables={**task.tables, "dev": turned(task.rows("dev"))})
        texts = [sentence(rng, topic) for topic in TOPICS for _ in range(20)]
        tokenizer = make_tokenizer(Scratch("tiny", vocabulary=512), task, texts)
        config = BertConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                            intermediate_size=64, max_position_embeddings=64)
        with seeds.torch_scope(0, "weights"):
            encoder = Encoder(BertForMaskedLM(config), tokenizer)
        out.mkdir()

        def watch(done, total):
            print("update", done, flush=True)
            if done == total:
                save_file(weights_of(encoder), out / "last.safetensors")

        trace = run_stage(encoder, STAGE, task, documents=encode_documents(tokenizer, texts, 32),
                          masker=RandomTokens(), seed=0, resume=resume, watch=watch)
        save_file(weights_of(encoder), out / "final.safetensors")
        told = asdict(trace)
        del told["seconds"]
        (out / "trace.json").write_text(json.dumps(told))


    if __name__ == "__main__":
        torch.set_num_threads(1)
        loop.CHECKPOINT_SECONDS = 0
        for line in sys.stdin:
            out, resume = json.loads(line)
            pid = os.fork()
            if pid == 0:
                print("pid", os.getpid(), flush=True)
                live(Path(out), Path(resume))
                os._exit(0)
            print("ended", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
    """
)


class Lives:
    """An interpreter with everything imported that runs the stage in a child process each time it is asked to."""

    def __init__(self, script: Path) -> None:
        paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "7", "PYTHONPATH": paths},
            start_new_session=True,
        )

    def start(self, out: Path, resume: Path) -> Iterator[tuple[str, int]]:
        """Begin a life; what it says, to its end."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([str(out), str(resume)]) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            what, number = line.split()
            yield what, int(number)
            if what == "ended":
                return
        raise AssertionError("the interpreter itself is gone; its error stands above")

    def close(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


UPDATES = 40


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    script = tmp_path / "lives.py"
    script.write_text(LIVES.replace("UPDATES", str(UPDATES)))
    started = Lives(script)
    yield started
    started.close()


def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(
    lives: Lives, tmp_path: Path, rng: np.random.Generator
) -> None:
    live = runpy.run_path(str(tmp_path / "lives.py"))["live"]
    live(tmp_path / "whole", None)  # here, while the other process, with another hash seed, is still importing
    spans: list[tuple[int, int]] = []
    for life in range(5):
        killing = life < 4
        patience = int(rng.integers(2, 7)) if killing else UPDATES + 1
        pid, done, heard = 0, [], [0.0]
        for what, number in lives.start(tmp_path / f"life-{life}", tmp_path / "resume"):
            if what == "pid":
                pid = number
            elif what == "update":
                done.append(number)
                heard.append(time.monotonic())
                if len(done) == patience:
                    time.sleep(rng.uniform(0, 1) * (heard[-1] - heard[-2]))  # anywhere in an update and its save
                    os.kill(pid, signal.SIGKILL)
        assert number == (-signal.SIGKILL if killing else 0)
        assert done == list(range(done[0], done[-1] + 1))
        spans.append((done[0], done[-1]))
    assert spans[0][0] == 1
    assert all(last < UPDATES for _, last in spans[:-1]), "each was to be killed on the way"
    for (_, last), (begun, _) in pairwise(spans):  # between two lines, an update and a save
        assert last <= begun <= last + 2
    for name in ("last.safetensors", "final.safetensors", "trace.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "life-4" / name).read_bytes(), name
    trained, best = (load_file(tmp_path / "whole" / f"{name}.safetensors") for name in ("last", "final"))
    assert not same(trained, best), "the best weights were to be others than the last, so that both are compared"
