"""The run folder: what is there is whole, nothing is made twice, and only one process runs in it."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivium.errors import ArtifactError
from trivium.store import (
    Artifact,
    Store,
    atomic_folder,
    atomic_write,
    changed,
    demand_unchanged,
    mark_done,
    mark_undone,
)


class Maker:
    """Fills a folder, and counts how often it was asked to."""

    def __init__(self, text: str = "weights") -> None:
        self.text, self.calls = text, 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / "mlm").mkdir()
        (folder / "mlm" / "model.bin").write_text(self.text)
        (folder / "trace.json").write_text("{}")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs" / "demo")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".locks"}


def test_what_was_made_is_found_again_and_never_made_twice(store: Store) -> None:
    maker = Maker()
    first = store.make("stage", {"seed": 0}, maker)
    second = Store(store.root).make("stage", {"seed": 0}, maker)
    assert maker.calls == 1
    assert (first.reused, second.reused) == (False, True)
    assert (first.folder, first.key, first.seconds) == (second.folder, second.key, second.seconds)
    assert (first.folder / "mlm" / "model.bin").read_text() == "weights"
    assert first.folder == store.root / "artifacts" / f"stage-{first.key}"


def test_done_json_says_what_it_is_made_of(store: Store) -> None:
    made = store.make("stage", {"text": "naïve 文", "rate": 0.5}, Maker())
    done = json.loads((made.folder / "done.json").read_text())
    assert done["files"] == {"mlm/model.bin": 7, "trace.json": 2}
    assert done["inputs"] == {"text": "naïve 文", "rate": 0.5}
    assert (done["kind"], done["key"], done["seconds"]) == ("stage", made.key, made.seconds)


@given(
    st.lists(
        st.dictionaries(st.sampled_from("abc"), st.integers(0, 2) | st.none() | st.text("01", max_size=1)), max_size=6
    )
)
@settings(max_examples=40, deadline=None)
def test_other_inputs_have_another_place(inputs: list[dict[str, object]]) -> None:
    store = Store(Path("nowhere"))
    places = [store.partial(kind, each) for each in inputs for kind in ("stage", "documents")]
    distinct = {json.dumps(each, sort_keys=True) for each in inputs}
    assert len(set(places)) == 2 * len(distinct)


def test_the_kind_is_part_of_the_key(store: Store) -> None:
    first, second = store.make("stage", 1, Maker("a")), store.make("documents", 1, Maker("b"))
    assert first.key != second.key
    assert (first.folder / "mlm" / "model.bin").read_text() == "a"


@pytest.mark.parametrize("crash", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_crash_leaves_nothing_and_the_next_run_makes_it(store: Store, crash: type[BaseException]) -> None:
    def write(folder: Path) -> None:
        Maker()(folder)
        raise crash

    with pytest.raises(crash):
        store.make("stage", 1, write)
    assert names(store.artifacts) == set()
    maker = Maker()
    assert not store.make("stage", 1, maker).reused
    assert maker.calls == 1


def truncated(folder: Path) -> None:
    (folder / "mlm" / "model.bin").write_text("weig")


def missing(folder: Path) -> None:
    (folder / "mlm" / "model.bin").unlink()


def cut_short(folder: Path) -> None:
    done = folder / "done.json"
    done.write_text(done.read_text()[:-9])


def never_done(folder: Path) -> None:
    (folder / "done.json").unlink()


def zeroed(folder: Path) -> None:
    (folder / "done.json").write_bytes(bytes(80))


@pytest.mark.parametrize("damage", [truncated, missing, cut_short, never_done, zeroed])
def test_a_damaged_artifact_is_made_anew(store: Store, damage: Callable[[Path], None]) -> None:
    maker = Maker()
    made = store.make("stage", 1, maker)
    damage(made.folder)
    again = store.make("stage", 1, maker)
    assert (again.reused, maker.calls) == (False, 2)
    assert (made.folder / "mlm" / "model.bin").read_text() == "weights"
    assert store.make("stage", 1, maker).reused
    assert names(store.artifacts) == {made.folder.name}


def test_threads_that_race_make_it_once(store: Store) -> None:
    maker, gate, made = Maker(), threading.Barrier(8), list[Artifact]()

    def slowly(folder: Path) -> None:
        maker(folder)
        time.sleep(0.05)

    def race() -> None:
        gate.wait()
        made.append(store.make("stage", 1, slowly))

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert maker.calls == 1
    assert sorted(artifact.reused for artifact in made) == [False] + [True] * 7


RACE = """
import sys, time
from pathlib import Path
from trivium.store import Store
root = Path(sys.argv[1])
def write(folder):
    with (root / "made").open("a") as file:
        file.write("x")
    time.sleep(0.2)
    (folder / "model.bin").write_text("weights")
print("ready", flush=True)
sys.stdin.readline()
print(Store(root).make("stage", 1, write).reused)
"""
OWN = """
import sys, time
from pathlib import Path
from trivium.store import Store
with Store(Path(sys.argv[1])).owned():
    print("mine", flush=True)
    sys.stdin.read()
"""


def start(code: str, root: Path) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code, str(root)], stdin=pipe, stdout=pipe, text=True)


def test_processes_that_race_make_it_once(store: Store) -> None:
    store.root.mkdir(parents=True)
    rivals = [start(RACE, store.root) for _ in range(2)]
    for rival in rivals:
        assert rival.stdout is not None
        assert rival.stdout.readline() == "ready\n"
    for rival in rivals:
        assert rival.stdin is not None
        rival.stdin.write("go\n")
        rival.stdin.flush()
    told = [rival.communicate(timeout=60)[0].strip() for rival in rivals]
    assert sorted(told) == ["False", "True"]
    assert (store.root / "made").read_text() == "x"


def test_only_one_process_runs_in_a_folder_and_a_killed_one_gives_it_back(store: Store) -> None:
    holder = start(OWN, store.root)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "mine\n"
        with pytest.raises(ArtifactError, match=rf"pid {holder.pid}\) is running this study.*--runs"), store.owned():
            pytest.fail("two processes in one folder")
        holder.kill()
    with store.owned():
        assert store.root.is_dir()
    assert not (store.root / ".pid").exists()


def test_a_folder_is_given_back_after_an_error_and_is_nobody_elses_meanwhile(store: Store) -> None:
    def fail() -> None:
        with store.owned():
            with pytest.raises(ArtifactError, match="another process"), Store(store.root).owned():
                pytest.fail("owned twice")
            raise KeyError

    for _ in range(2):
        with pytest.raises(KeyError):
            fail()


def test_sweeping_takes_what_a_crash_left_and_nothing_else(store: Store) -> None:
    made = store.make("stage", 1, Maker())
    partial = store.partial("stage", 2)
    partial.mkdir()
    atomic_write(store.root / "verdict.json", "{}")
    (store.artifacts / ".tmp-stage-0-abc" / "deep").mkdir(parents=True)
    (store.root / ".tmp-report.html-abc").write_text("half")
    store.sweep()
    assert names(store.artifacts) == {made.folder.name, partial.name}
    assert names(store.root) == {"artifacts", "verdict.json"}
    Store(store.root / "never").sweep()


def test_a_partial_is_nobodys_artifact(store: Store) -> None:
    partial = store.partial("stage", 1)
    partial.mkdir(parents=True)
    (partial / "weights").write_text("x")
    made = store.make("stage", 1, Maker())
    assert not made.reused
    assert (partial / "weights").exists()


@given(old=st.none() | st.text(), new=st.text())
@settings(max_examples=30, deadline=None)
def test_a_file_is_the_old_one_or_the_new_one(
    tmp_path_factory: pytest.TempPathFactory, old: str | None, new: str
) -> None:
    path = tmp_path_factory.mktemp("files") / "deep" / "report.md"
    if old is not None:
        atomic_write(path, old)
    with pytest.raises(UnicodeEncodeError):
        atomic_write(path, "half written \ud800")
    assert path.exists() == (old is not None)
    atomic_write(path, new)
    assert path.read_bytes().decode() == new
    assert names(path.parent) == {path.name}


def replace_folder(folder: Path, text: str, last: Callable[[], None] = lambda: None) -> None:
    with atomic_folder(folder) as scratch:
        (scratch / "state.json").write_text(text)
        last()


def test_the_old_folder_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    replace_folder(folder, "old")

    def fail() -> None:
        assert (folder / "state.json").read_text() == "old"
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_folder(folder, "new", fail)
    assert (folder / "state.json").read_text() == "old"
    assert names(tmp_path) == {"checkpoint"}
    replace_folder(folder, "new")
    assert (folder / "state.json").read_text() == "new"
    assert names(tmp_path) == {"checkpoint"}


def test_an_old_folder_is_never_half_deleted_in_its_place(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while it deletes the old checkpoint, a run must find the new one, and the next run sweeps the rest."""

    class KilledError(BaseException):
        pass

    def die(folder: Path, **_: bool) -> None:
        next(folder.iterdir()).unlink()
        raise KilledError

    folder = store.partial("stage", 1)
    replace_folder(folder, "old")
    with monkeypatch.context() as patched, pytest.raises(KilledError):
        replace_folder(folder, "new", lambda: patched.setattr("shutil.rmtree", die))
    assert (folder / "state.json").read_text() == "new"
    store.sweep()
    assert names(store.artifacts) == {folder.name}


def test_colleagues_can_read_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "usual").mkdir()
    (tmp_path / "usual.txt").write_text("")
    atomic_write(tmp_path / "report.html", "")
    with atomic_folder(tmp_path / "model"):
        pass
    assert (tmp_path / "report.html").stat().st_mode == (tmp_path / "usual.txt").stat().st_mode
    assert (tmp_path / "model").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_who_may_read_a_folder_may_read_its_files(mask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        with atomic_folder(tmp_path / "made") as scratch:
            (scratch / "deep").mkdir()
            for file in (scratch / "weights", scratch / "deep" / "weights"):
                file.touch(0o600)
    finally:
        os.umask(before)
    for file in (tmp_path / "made" / "weights", tmp_path / "made" / "deep" / "weights"):
        assert file.stat().st_mode & 0o777 == mode


def test_what_was_marked_as_done_is_compared_and_nothing_else(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_text(name)
    assert changed(tmp_path) is None
    assert changed(tmp_path / "a") is None, "a file is no folder"
    mark_done(tmp_path, "ab")
    assert changed(tmp_path) is None
    (tmp_path / "c").write_text("other")
    assert changed(tmp_path) is None
    (tmp_path / "b").write_text("d")
    assert changed(tmp_path, "a") is None
    assert (changed(tmp_path) or "").startswith("b: expected content")
    with pytest.raises(ArtifactError, match=r"b: expected content .* delete done.json"):
        demand_unchanged(tmp_path)
    (tmp_path / "done.json").write_text("{")
    assert (changed(tmp_path, "a") or "").startswith("done.json: ")
    mark_undone(tmp_path)
    demand_unchanged(tmp_path)
