"""What a study says while it runs, and what is left when somebody stops it."""

import io
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from conftest import tiny_study
from trivium.cli import app
from trivium.study.progress import Jobs, Terminal


def terminal(*, tty: bool) -> tuple[Terminal, io.StringIO]:
    written = io.StringIO()
    return Terminal(Console(file=written, force_terminal=tty, width=100)), written


def test_without_a_terminal_a_phase_is_a_line_at_every_quarter_and_an_inner_one_a_line_at_its_end() -> None:
    shown, written = terminal(tty=False)
    with shown.phase("training") as bar:
        with shown.phase("tlm, seed 0") as inner:
            for done in range(5):
                bar(done, 8)
                inner(done, 4)
        bar(8, 8)
    said = written.getvalue().splitlines()
    assert [line for line in said if line.startswith("training")] == [f"training: {25 * i} %" for i in (0, 1, 2, 4)]
    (inside,) = [line for line in said if line.startswith("  tlm, seed 0: done in ")]
    assert said.index(inside) == 3
    assert not any("\x1b" in line for line in said)


def test_on_a_terminal_inner_bars_stand_below_and_leave() -> None:
    shown, written = terminal(tty=True)
    with shown.phase("training") as bar:
        with shown.phase("tlm, seed 0") as inner:
            inner(1, 4)
            bar(1, 8)
            assert shown.bars is not None
            assert [task.description for task in shown.bars.tasks] == ["training", "  tlm, seed 0"]
        assert [task.description for task in shown.bars.tasks] == ["training"]
    assert shown.bars is None
    assert "training" in written.getvalue()


def test_an_error_leaves_no_bar_behind() -> None:
    shown, _ = terminal(tty=True)
    with pytest.raises(KeyboardInterrupt), shown.phase("training"), shown.phase("tlm"):
        raise KeyboardInterrupt
    assert shown.bars is None
    assert shown.depth == 0


def test_jobs_side_by_side_show_the_step_that_each_is_at() -> None:
    shown, _ = terminal(tty=True)
    jobs = Jobs(shown)
    with shown.phase("training"):
        jobs.at(0, "tlm, read", 1, 4)
        jobs.at(1, "random, read", 1, 4)
        jobs.at(0, "tlm, read", 4, 4)
        jobs.at(0, "tlm, tune", 0, 4)
        assert shown.bars is not None
        assert [task.description.strip() for task in shown.bars.tasks] == ["training", "random, read", "tlm, tune"]
        jobs.close()
        assert len(shown.bars.tasks) == 1


def test_what_was_done_before_is_not_spoken_of() -> None:
    shown, written = terminal(tty=False)
    jobs = Jobs(shown)
    with shown.phase("training"):
        jobs.at(0, "tlm, read", 1, 1)
        jobs.at(0, "tlm, tune", 1, 4)
        jobs.close()  # stopped: it is not done
    assert written.getvalue() == ""


@pytest.fixture
def file(tmp_path: Path, data: Path) -> Path:
    path = tmp_path / "tiny study.yaml"
    study = tiny_study(data)
    tune = study["arms"]["finetune"]["stages"][0]
    fill = {"preset": "tapt", "updates": 8}
    arms = {"finetune": {"stages": [tune]}, "tapt": {"stages": [fill, tune]}}
    path.write_text(yaml.safe_dump({**study, "seeds": 1, "corpus": None, "arms": arms, "linear": False}))
    return path


def test_quiet_leaves_the_result_alone(file: Path, tmp_path: Path) -> None:
    options = ["masker", str(file), "--runs", str(tmp_path)]
    loud, quiet = (CliRunner().invoke(app, [*options, *more], catch_exceptions=False) for more in ([], ["--quiet"]))
    assert any(line.endswith(" %") for line in loud.stdout.splitlines())
    assert quiet.stdout
    assert not any(line.endswith(" %") for line in quiet.stdout.splitlines())
    assert quiet.stderr == ""


@pytest.mark.parametrize("verb", ["run", "demo", "check", "documents", "masker", "auxiliary"])
def test_all_that_take_long_can_be_quiet(verb: str) -> None:
    assert "--quiet" in CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"}).stdout


def without_seconds(verdict: dict[str, Any]) -> dict[str, Any]:
    return verdict | {"arms": {n: {k: v for k, v in a.items() if k != "seconds"} for n, a in verdict["arms"].items()}}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_ctrl_c_stops_cleanly_and_the_command_that_it_prints_goes_on(file: Path, tmp_path: Path, workers: int) -> None:
    """What is printed is run as it is, and ends as if nobody had stopped anything."""
    options = ["run", str(file), f"engine.workers={workers}", "--runs", str(tmp_path / "stopped runs")]
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "trivium", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests may run where it is ignored
    ) as process:  # fmt: skip
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("  tapt, seed 0, tapt: done"))
        os.kill(process.pid, signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    said = errors.strip().splitlines()[-1]
    assert "Traceback" not in errors
    command = shlex.split(said.removeprefix("stopped; to go on from here: "))
    assert command == ["python", "-m", "trivium", *options]
    folder = tmp_path / "stopped runs" / "tiny"
    assert not (folder / "verdict.json").exists()
    whole = CliRunner().invoke(app, ["run", str(file), "--runs", str(tmp_path / "whole"), "--json", "--quiet"])
    resumed = CliRunner().invoke(app, [*command[3:], "--json", "--quiet"])
    assert resumed.stderr == ""
    assert without_seconds(json.loads(resumed.stdout)) == without_seconds(json.loads(whole.stdout))
    assert not list((folder / "artifacts").glob(".tmp-*"))
    again = json.loads((folder / "manifest.json").read_text())
    assert {a["status"] for a in again["artifacts"]} == {"made", "reused"}
