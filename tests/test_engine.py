"""The same answers here and in worker processes, whatever is said, printed or broken on the way."""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from trivium import errors
from trivium.engine import run_all
from trivium.errors import ConfigError, DataError, TriviumError

HARD = ["naïve 文 🌊 \u2028 \ud800", 'line\nline\r\n"quoted"\t\x00', {"": [None, 1.5, -0.0, {"ü": []}]}, "x" * 200_000]
KINDS = [name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, TriviumError)]
PATIENCE = 60  # seconds that a busy machine is given for what takes one


class OddError(DataError):
    """A user's own, which the other side of a pipe knows nothing of."""

    def __init__(self, row: int) -> None:
        super().__init__(f"row {row} is odd")


# what follows is called by name, here and in workers


def echo(item: Any, send: Any) -> Any:
    """Later items are quicker, so that answers come back out of order."""
    send({"begun": item})
    time.sleep(0.02 * item["wait"])
    send("half\nway ü")
    return {"item": item, "said": item["text"]}


def noisy(item: Any, _send: Any) -> Any:
    print('{"result": "from print"}')  # noqa: T201
    os.write(1, b'{"result": "from a library in C"}\n')
    print("to the log", file=sys.stderr, flush=True)  # noqa: T201
    subprocess.run([sys.executable, "-c", "import sys; print(sys.stdin.read() + 'from a program')"], check=True)
    return item


def warn(item: Any, _send: Any) -> Any:
    logging.getLogger("trivium").warning("checkpoint %d is damaged", item)
    return item


def fail(item: Any, _send: Any) -> Any:
    if item == "odd":
        raise OddError(3)
    if item != "fine":
        raise getattr(errors, item)(f"study.yaml, {item}:\nexpected ü")
    return item


def break_down(item: Any, _send: Any) -> Any:
    if item == "wait":
        time.sleep(10 * PATIENCE)
    if item == "die":
        os._exit(7)
    return {}["no such key"]


def hold(item: Any, _send: Any) -> Any:
    with FileLock(item):
        Path(item + ".held").touch()
        time.sleep(10 * PATIENCE)


def where(_item: Any, _send: Any) -> Any:
    return os.getpid()


# up to here


def call(name: str, items: list[Any], **options: Any) -> list[Any]:
    return run_all(f"{__name__}:{name}", items, **options)


def test_workers_give_the_same_results_in_the_same_order_as_this_process() -> None:
    items = [{"wait": 5 - i, "text": text} for i, text in enumerate([*HARD, "last"])]
    told: dict[int, dict[int, list[Any]]] = {1: {}, 3: {}}
    for workers, messages in told.items():
        found = call("echo", items, workers=workers, receive=lambda i, m, to=messages: to.setdefault(i, []).append(m))
        assert found == [{"item": item, "said": item["text"]} for item in items]
    assert told[1] == told[3] == {i: [{"begun": item}, "half\nway ü"] for i, item in enumerate(items)}


def test_there_is_work_for_every_worker_and_no_more_workers_than_work() -> None:
    assert call("where", [], workers=2) == []
    assert call("where", [0], workers=2) == [os.getpid()]
    assert call("where", [0, 1], workers=1) == [os.getpid()] * 2
    pids = call("where", [0, 1], workers=9)
    assert os.getpid() not in pids
    assert len(set(pids)) == 2


def test_what_is_printed_or_read_in_a_worker_touches_no_answer(tmp_path: Path) -> None:
    log = tmp_path / "workers.log"
    assert call("noisy", ["a", "b", "c"], workers=2, log=log) == ["a", "b", "c"]
    printed = log.read_text()
    for what in ("from print", "from a library in C", "to the log", "from a program"):
        assert printed.count(what) == 3, what


@pytest.mark.parametrize("workers", [1, 2])
def test_our_errors_come_back_as_what_they_are_and_the_others_go_on(workers: int) -> None:
    *found, odd, fine = call("fail", [*KINDS, "odd", "fine"], workers=workers)
    for name, error in zip(KINDS, found, strict=True):
        assert type(error) is getattr(errors, name)
        assert str(error) == f"study.yaml, {name}:\nexpected ü"
    assert {ConfigError, DataError} < {type(error) for error in found}
    assert isinstance(odd, DataError), "a user's own error is one of ours too"
    assert (str(odd), fine) == ("row 3 is odd", "fine")


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ("crash", "(?s)item 1 .*:break_down failed.*KeyError: 'no such key'"),
        ("die", "(?s)item 1 .*ended with status 7"),
    ],
)
def test_a_crash_is_told_and_ends_the_others_at_once(item: str, told: str) -> None:
    begun = time.monotonic()
    with pytest.raises(RuntimeError, match=told):
        call("break_down", ["wait", item], workers=2)
    assert time.monotonic() - begun < PATIENCE


def test_workers_look_where_their_caller_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_own_job.py").write_text("def double(item, send):\n    return 2 * item\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert run_all("users_own_job:double", [1, 2], workers=2) == [2, 4]


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    """Killed outright it can tell nobody; its workers notice that their pipe is closed."""
    locks = [str(tmp_path / name) for name in "ab"]
    code = f"from trivium.engine import run_all; run_all('{__name__}:hold', {locks!r}, workers=2)"
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent) as parent:
        until = time.monotonic() + PATIENCE
        while not all(Path(lock + ".held").exists() for lock in locks):
            assert time.monotonic() < until, "the workers never began"
            time.sleep(0.02)
        parent.kill()
    for lock in locks:
        with FileLock(lock, timeout=PATIENCE):
            pass


@pytest.mark.parametrize("workers", [1, 2])
def test_warnings_reach_whoever_asked(workers: int, caplog: pytest.LogCaptureFixture) -> None:
    assert run_all("test_engine:warn", [1, 2], workers=workers) == [1, 2]
    assert sorted(caplog.messages) == ["checkpoint 1 is damaged", "checkpoint 2 is damaged"]
