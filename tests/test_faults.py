"""What a broken disk or a killed process may do: a clear error or the previous good state, never a wrong result."""

import errno
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import tiny_study
from trivium import store as keeping
from trivium.config import parse_config
from trivium.data import load_corpus
from trivium.documents.shards import shards_of
from trivium.encoders import Pretrained, from_pretrained
from trivium.errors import ArtifactError, ConfigError
from trivium.masking.maskers import Saved
from trivium.store import Store, read_array, refusal, write_array
from trivium.study.report import write_report
from trivium.study.report_run import RECORDS, read_run, read_verdict
from trivium.study.runner import Study, run
from trivium.training import checkpoint
from trivium.training.predict import predict
from trivium.training.push import push

BENCH = Path(__file__).parent.parent / "bench"


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """What was said to the user since the last time it was asked for."""

    def said() -> list[str]:
        messages = [record.getMessage() for record in caplog.records if record.name == "trivium"]
        caplog.clear()
        return messages

    with caplog.at_level(logging.WARNING, "trivium"):
        yield said


@pytest.fixture
def another_process(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Forget what this process has compared already, as a new one would not know it."""

    def forget() -> None:
        for known in ("_COMPARED", "_TOLD"):
            monkeypatch.setattr(keeping, known, set())

    return forget


def flip(path: Path, bit: int = 1) -> None:
    """Turn over a bit in the middle of a file; its size and time stay."""
    about, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1 << bit
    path.write_bytes(content)
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lose(path: Path) -> None:
    path.unlink()


DAMAGES = [flip, cut, lose]

# -- artifacts ---------------------------------------------------------------------------------------------------------


def small(data: Path, **changes: object) -> dict[str, object]:
    """A study of one arm with everything that is kept: task, documents, tokens, weights, answers."""
    raw = tiny_study(data)
    return {**raw, "seeds": 1, "baseline": "tlm", "arms": {"tlm": raw["arms"]["tlm"]}, **changes}


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return run(parse_config(small(data), "tiny.yaml"), runs=tmp_path_factory.mktemp("whole"))


@pytest.fixture
def copy(whole: Study, tmp_path: Path) -> Path:
    """A run folder of one's own, and the folder it lies in."""
    shutil.copytree(whole.folder, tmp_path / "tiny")
    return tmp_path / "tiny"


def largest(folder: Path) -> Path:
    return max((file for file in folder.rglob("*") if file.name != "done.json" and file.is_file()), key=_size)


def _size(file: Path) -> int:
    return file.stat().st_size


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        *((kind, flip) for kind in ("task", "documents", "reading", "stage", "score", "linear")),
        ("stage", cut),
        ("documents", lose),
    ],
)
def test_a_damaged_artifact_of_any_kind_is_made_anew_to_the_same_bytes_and_told(
    kind: str,
    damage: Callable[[Path], None],
    whole: Study,
    copy: Path,
    data: Path,
    told: Callable[[], list[str]],
    another_process: Callable[[], None],
) -> None:
    folder = min(copy.glob(f"artifacts/{kind}-*"))
    victim = largest(folder)
    was = victim.read_bytes()
    damage(victim)
    another_process()
    again = run(parse_config(small(data), "tiny.yaml"), runs=copy.parent)
    assert [folder.name in line and victim.name in line for line in told()] == [True]
    assert again.verdict.to_json() | {"arms": 0} == whole.verdict.to_json() | {"arms": 0}
    assert victim.read_bytes() == was


@pytest.mark.parametrize("byte", [30, 200, -40, -3])
def test_a_flipped_bit_in_the_list_itself_is_found(
    byte: int, tmp_path: Path, told: Callable[[], list[str]], another_process: Callable[[], None]
) -> None:
    store, calls = Store(tmp_path), []

    def write(folder: Path) -> None:
        calls.append(folder)
        (folder / "model.bin").write_bytes(b"weights" * 10)

    made = store.make("stage", {"seed": 0, "rate": 0.5, "name": "tlm"}, write)
    done = made.folder / "done.json"
    content = bytearray(done.read_bytes())
    content[byte] ^= 1
    done.write_bytes(content)
    another_process()
    assert not store.make("stage", {"seed": 0, "rate": 0.5, "name": "tlm"}, write).reused
    assert len(calls) == 2
    assert len(told()) == 1
    assert store.make("stage", {"seed": 0, "rate": 0.5, "name": "tlm"}, write).reused


def test_files_are_read_once_in_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, another_process: Callable[[], None]
) -> None:
    store, read = Store(tmp_path), []
    store.make("stage", 1, lambda folder: (folder / "model.bin").write_bytes(b"weights") and None)
    content = keeping._content
    monkeypatch.setattr(keeping, "_content", lambda path: read.append(path.name) or content(path))
    another_process()
    for _ in range(3):
        assert store.make("stage", 1, lambda folder: pytest.fail("made anew")).reused
    assert read == ["model.bin"]


def test_an_artifact_of_an_older_version_is_taken_by_its_sizes(
    tmp_path: Path, told: Callable[[], list[str]], another_process: Callable[[], None]
) -> None:
    store = Store(tmp_path)
    made = store.make("stage", 1, lambda folder: (folder / "model.bin").write_bytes(b"weights") and None)
    done = json.loads((made.folder / "done.json").read_text())
    for key in ("self", "xxh3_128"):
        del done[key]
    (made.folder / "done.json").write_text(json.dumps(done))
    another_process()
    assert store.make("stage", 1, lambda folder: pytest.fail("made anew")).reused
    assert told() == []


# -- records and models ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECORDS)
def test_a_damaged_record_is_not_believed_and_another_run_mends_it(
    name: str, whole: Study, copy: Path, data: Path
) -> None:
    flip(copy / name)
    if name == "verdict.json":
        with pytest.raises(
            ArtifactError, match=r"verdict\.json: .* found not what the study wrote .*Run the study again"
        ):
            write_report(copy)
        with pytest.raises(ArtifactError, match="verdict"):
            read_verdict(copy)
    else:
        found = read_run(copy)
        assert [problem.startswith(f"{name} could not be read: not what the study") for problem in found.problems] == [
            True
        ]
        assert found.verdict == json.loads((whole.folder / "verdict.json").read_text())
    again = run(parse_config(small(data), "tiny.yaml"), runs=copy.parent)
    assert again.verdict.to_json() | {"arms": 0} == whole.verdict.to_json() | {"arms": 0}
    assert read_run(copy).problems == ()


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_verdict_of_which_any_bit_is_flipped_is_refused(whole: Study, tmp_path: Path, choice: st.DataObject) -> None:
    for name in ("verdict.json", "done.json"):
        shutil.copy(whole.folder / name, tmp_path / name)
    assert read_verdict(tmp_path)["study"] == "tiny"
    content = bytearray((tmp_path / "verdict.json").read_bytes())
    content[choice.draw(st.integers(0, len(content) - 1))] ^= 1 << choice.draw(st.integers(0, 7))
    (tmp_path / "verdict.json").write_bytes(content)
    with pytest.raises(ArtifactError, match="verdict"):
        read_verdict(tmp_path)


def test_what_was_said_of_a_choice_is_not_believed_either(copy: Path) -> None:
    victim = next(copy.glob("artifacts/documents-*/examples.json"))
    flip(victim)
    assert [f"{victim.parent.name}/examples.json" in problem for problem in read_run(copy).problems] == [True]


def test_while_a_study_runs_its_records_are_not_called_done(
    copy: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        assert not (copy / "done.json").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr("trivium.study.runner._Run._judge", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(parse_config(small(data), "tiny.yaml"), runs=copy.parent)
    assert read_run(copy).problems == ()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_answers_nothing_and_another_run_mends_it(
    damage: Callable[[Path], None], copy: Path, data: Path, another_process: Callable[[], None]
) -> None:
    model = copy / "models/tlm/seed-0"
    rows = [{"text": "salt oven"}]
    (before,) = predict(model, rows)
    damage(largest(model))
    for use in (lambda: next(predict(model, rows)), lambda: push(model, "owner/name")):
        with pytest.raises(ArtifactError, match=r"has changed .*model.*Run the study again"):
            use()
    another_process()
    run(parse_config(small(data), "tiny.yaml"), runs=copy.parent)
    assert list(predict(model, rows)) == [before]


def test_a_study_neither_starts_from_a_damaged_model_nor_hides_with_a_damaged_masker(
    copy: Path, tmp_path: Path
) -> None:
    model, masker = (
        copy / "models/tlm/seed-0",
        Path(shutil.copytree(next(copy.glob("artifacts/task-*")), tmp_path / "m")),
    )
    for folder, use in (
        (model, lambda: from_pretrained(Pretrained(str(model)))),
        (masker, lambda: Saved(masker).fit(None)),  # type: ignore[arg-type]  # it comes no further
    ):
        flip(largest(folder))
        with pytest.raises(ArtifactError, match=f"{folder.name}: expected what a study wrote there"):
            use()


def test_a_model_that_somebody_changed_is_taken_when_its_list_is_gone(copy: Path) -> None:
    model = copy / "models/tlm/seed-0"
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").unlink()
    (model / "config.json").write_text(json.dumps(config | {"id2label": {"0": "x", "1": "y", "2": "z"}}))
    with pytest.raises(ArtifactError, match=r"config\.json: expected .*delete done\.json"):
        next(predict(model, [{"text": "salt"}]))
    (model / "done.json").unlink()
    assert set(next(predict(model, [{"text": "salt"}]))["probabilities"]) == {"x", "y", "z"}


# -- what is kept of corpora -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_corpus_is_read_anew(
    damage: Callable[[Path], None],
    data: Path,
    tmp_path: Path,
    told: Callable[[], list[str]],
    another_process: Callable[[], None],
) -> None:
    texts = load_corpus(data / "corpus.jsonl", cache=tmp_path).table["text"].to_pylist()
    assert told() == []
    (kept,) = tmp_path.glob("corpora/*/*.arrow")
    damage(kept)
    another_process()
    assert load_corpus(data / "corpus.jsonl", cache=tmp_path).table["text"].to_pylist() == texts
    assert ["read anew" in line for line in told()] == [True]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_made_anew(
    damage: Callable[[Path], None],
    data: Path,
    tmp_path: Path,
    told: Callable[[], list[str]],
    another_process: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRIVIUM_CACHE", str(tmp_path))
    corpus = load_corpus(data / "corpus.jsonl")
    (folder,) = shards_of(corpus)
    was = (folder / "postings.bin").read_bytes()
    damage(folder / "postings.bin")
    another_process()
    assert shards_of(corpus) == [folder]
    assert (folder / "postings.bin").read_bytes() == was
    assert ["made anew" in line for line in told()] == [True]


@pytest.mark.parametrize("damage", [*DAMAGES, lambda path: path.write_bytes(b"")])
def test_a_damaged_array_is_not_there(
    damage: Callable[[Path], None],
    tmp_path: Path,
    told: Callable[[], list[str]],
    another_process: Callable[[], None],
) -> None:
    file, array = tmp_path / "block.npy", np.arange(12, dtype=np.int16).reshape(3, 4)
    write_array(file, array)
    found = read_array(file, (3, 4), np.int16)
    assert found is not None
    assert (found == array).all()
    assert read_array(file, (4, 3), np.int16) is None
    assert np.array_equal(np.load(file), array), "it is a file that numpy reads"
    told()
    damage(file)
    another_process()
    assert read_array(file, (3, 4), np.int16) is None
    assert len(told()) == (damage is not lose)
    np.save(file, array)  # of an older version
    assert read_array(file, (3, 4), np.int16) is not None


# -- checkpoints -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_checkpoint_before_a_damaged_one_is_taken(
    damage: Callable[[Path], None], tmp_path: Path, told: Callable[[], list[str]]
) -> None:
    for number in (1, 2, 3):
        checkpoint.write(tmp_path, number, lambda folder, _before: _fill(folder))
    assert sorted(one.name for one in tmp_path.iterdir()) == ["update-00000002", "update-00000003"]
    damage(tmp_path / "update-00000003" / "deep" / "model.bin")
    assert checkpoint.newest(tmp_path) == tmp_path / "update-00000002"
    assert ["passed over" in line for line in told()] == [True]
    damage(tmp_path / "update-00000002" / "deep" / "model.bin")
    assert checkpoint.newest(tmp_path) is None
    assert "starts from the beginning" in told()[-1]


def _fill(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "model.bin").write_bytes(b"weights")


# -- disks that refuse -------------------------------------------------------------------------------------------------

LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
from trivium.cli import main
main()
"""


def call(*arguments: object, cache: Path, limit: int | None = None) -> "subprocess.CompletedProcess[str]":
    """The command line in a process of its own, which may write files of so many bytes."""
    start = ["-m", "trivium"] if limit is None else ["-c", LIMITED, str(limit)]
    return subprocess.run(
        [sys.executable, *start, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TRIVIUM_CACHE": str(cache), "OMP_NUM_THREADS": "1"},
    )


def test_files_that_may_not_grow_are_told_of_and_the_next_run_goes_on(data: Path, tmp_path: Path, whole: Study) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(small(data)))
    stopped = call("run", file, "--runs", tmp_path / "runs", "--quiet", cache=tmp_path / "cache", limit=150_000)
    assert stopped.returncode == 1
    assert "Traceback" not in stopped.stderr
    assert "ArtifactError: " in stopped.stderr
    for word in ("File too large", "ulimit -f", "run again: what is finished is kept"):
        assert word in stopped.stderr
    assert not list((tmp_path / "runs").rglob(".tmp-*"))
    done = {one: one.stat().st_mtime_ns for one in tmp_path.glob("runs/tiny/artifacts/*/done.json")}
    assert done, "it was to be stopped on the way"
    again = run(parse_config(small(data), "tiny.yaml"), runs=tmp_path / "runs")
    assert again.verdict.to_json() | {"arms": 0} == whole.verdict.to_json() | {"arms": 0}
    assert {one: one.stat().st_mtime_ns for one in done} == done


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EFBIG])
@pytest.mark.parametrize("stage", ["run_stage", "save_documents"])
def test_a_full_disk_stops_the_run_and_blames_no_arm(
    number: int, stage: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_more: object) -> None:
        raise OSError(number, os.strerror(number), "somewhere/weights")

    place = {"run_stage": "trivium.study.job.run_stage", "save_documents": "trivium.core.Selection.save"}[stage]
    monkeypatch.setattr(place, refuse)
    with pytest.raises(ArtifactError, match=rf"somewhere/weights: .*{os.strerror(number)}.*run again"):
        run(parse_config(small(data), "tiny.yaml"), runs=tmp_path)
    assert not (tmp_path / "tiny" / "verdict.json").exists()
    monkeypatch.undo()


def test_a_verdict_that_cannot_be_written_leaves_the_old_one(
    copy: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, fsync = (copy / "verdict.json").read_bytes(), os.fsync

    def full(handle: int) -> None:
        if "verdict" in Path(f"/proc/self/fd/{handle}").readlink().name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    if not Path("/proc/self/fd").exists():
        pytest.skip("nobody says what a handle is open on")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match="the disk is full"):
        run(parse_config(small(data), "tiny.yaml"), runs=copy.parent)
    assert (copy / "verdict.json").read_bytes() == before
    assert not list(copy.rglob(".tmp-*"))


def rust(number: int) -> Exception:
    return Exception(f"I/O error: {os.strerror(number)} (os error {number})")


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (rust(errno.ENOSPC), "the disk is full"),
        (rust(errno.EROFS), "for reading alone"),
        (OSError("4096 requested and 1024 written"), "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied"), "permissions"),
        (OSError(errno.EIO, "Input/output error"), "the disk has errors"),
        (FileNotFoundError(errno.ENOENT, "No such file"), None),
        (ValueError("3 requested"), None),
    ],
)
def test_what_a_disk_says_is_put_into_words(error: Exception, word: str | None) -> None:
    said = refusal(error, Path("here"))
    assert (said is None) == (word is None)
    assert word is None or (said is not None and word in said and said.startswith("here: "))


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_run_folder_for_reading_alone(data: Path, tmp_path: Path) -> None:
    runs, file = tmp_path / "runs", tmp_path / "tiny.yaml"
    runs.mkdir(mode=0o500)
    file.write_text(yaml.safe_dump(small(data)))
    stopped = call("run", file, "--runs", runs, cache=tmp_path / "cache")
    assert stopped.returncode == 1
    assert "Traceback" not in stopped.stderr
    assert "Permission denied" in stopped.stderr


def test_a_file_where_the_run_folder_should_be(data: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(ConfigError, match="TRIVIUM_CACHE"):
        load_corpus(data / "corpus.jsonl", cache=tmp_path / "cache")


@pytest.mark.slow
def test_a_disk_that_fills_up(data: Path, tmp_path: Path, whole: Study) -> None:
    """A small disk of its own, where one can be mounted: the real thing."""
    disk, file = tmp_path / "disk", tmp_path / "tiny.yaml"
    disk.mkdir()
    file.write_text(yaml.safe_dump(small(data)))
    mounted = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mounted, check=False, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        stopped = call("run", file, "--runs", disk, "--quiet", cache=tmp_path / "cache")
        assert stopped.returncode == 1, stopped.stderr
        assert "Traceback" not in stopped.stderr
        assert "No space left on device" in stopped.stderr
        done = {one: one.stat().st_ino for one in disk.glob("tiny/artifacts/*/done.json")}
        assert done
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        again = call("run", file, "--runs", disk, "--json", cache=tmp_path / "cache")
        assert again.returncode == 0, again.stderr
        assert json.loads(again.stdout) | {"arms": 0} == whole.verdict.to_json() | {"arms": 0}
        assert {one: one.stat().st_ino for one in done} == done
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        closed = call("run", file, "--runs", disk, "--quiet", cache=tmp_path / "cache")
        assert closed.returncode == 1
        assert "Traceback" not in closed.stderr
        assert "Read-only file system" in closed.stderr
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# -- processes ---------------------------------------------------------------------------------------------------------


def test_a_second_process_is_told_who_is_there(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(small(data)))
    with Store(tmp_path / "runs" / "tiny").owned():
        refused = call("run", file, "--runs", tmp_path / "runs", cache=tmp_path / "cache")
    assert refused.returncode == 1
    assert f"pid {os.getpid()}" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_models_that_were_half_published_are_swept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for name in ("models/tlm/.tmp-seed-0-abc", "models/tlm/seed-0", "artifacts/.partial-masker-1/.tmp-xyz"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "models/tlm/seed-0/.tmp-README.md-abc").write_text("half")
    store.sweep()
    assert not list(tmp_path.rglob(".tmp-*"))
    assert (tmp_path / "models/tlm/seed-0").is_dir()
    assert (tmp_path / "artifacts/.partial-masker-1").is_dir()


@pytest.fixture(scope="module")
def chaos() -> Iterator[ModuleType]:
    sys.path.insert(0, str(BENCH))
    import chaos

    yield chaos
    sys.path.remove(str(BENCH))


def test_a_file_that_differs_is_found_and_times_alone_are_not(chaos: ModuleType, copy: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(copy, other)
    (other / "verdict.json").write_text(json.dumps(json.loads((other / "verdict.json").read_text())))
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"seconds": 1e6, "started": "never"}))
    assert chaos.differing(copy, other) == []
    flip(largest(next(other.glob("artifacts/stage-*"))))
    (next(other.glob("artifacts/score-*")) / "more").write_text("")
    assert sorted(Path(name).name for name in chaos.differing(copy, other)) == [
        "model-00001-of-00002.safetensors",
        "more",
    ]
    place = chaos.Place(tmp_path / "place", tmp_path)
    shutil.copytree(copy, place.run)
    assert place.redone() == []
    victim = next(place.run.glob("artifacts/stage-*/done.json"))
    os.utime(victim)
    assert [Path(name).parent.name for name in place.redone()] == [victim.parent.name]
    (place.run / "artifacts" / ".partial-stage-1").mkdir()
    assert [path.name for path in place.leftovers()] == [".partial-stage-1"]


@pytest.mark.slow
def test_a_study_that_is_killed_again_and_again_ends_as_one_that_was_not(chaos: ModuleType, tmp_path: Path) -> None:
    outcome = chaos.torment(tmp_path, kills=3, seed=1)
    assert sum(outcome.kills.values()) == 3
    assert outcome.wrong == []
