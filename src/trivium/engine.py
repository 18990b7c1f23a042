"""map(function, items): here, in worker processes, or on a Ray cluster.

A worker is ``python -m trivium.engine``: it is sent the name of a function and JSON items, and sends back messages and
results as lines of JSON; it looks for modules where its caller does. So a caller's script needs no
``if __name__ == "__main__"`` guard, nothing is pickled, and the same function runs unchanged on another machine.
"""

import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import IO, Any, TypeVar, cast

from trivium import errors
from trivium.core import JSON
from trivium.errors import ConfigError, TriviumError

F = TypeVar("F", bound=Callable[..., object])
R = TypeVar("R")
Send = Callable[[JSON], None]
Receive = Callable[[int, JSON], None]
_LOG = logging.getLogger("trivium")


def compiled(function: F) -> F:
    """Compile a function with numba, in such a way that threads can run it side by side.

    The machine code is kept beside the source, or in the user's cache where that cannot be written to, and nowhere if
    neither can: then it takes some seconds in every process. It is made anew when the function's own file changes, not
    when a compiled function of another file does that it calls: after changing such a one, touch the files that use it.
    """
    from numba import njit

    try:
        return cast("F", njit(nogil=True, cache=True)(function))
    except RuntimeError:  # nowhere to keep it
        return cast("F", njit(nogil=True)(function))


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Ray:
    """A Ray cluster (the extra ``ray``) that shares a file system with this machine.

    Attributes:
        address: Of its head, ``auto`` for the one this machine belongs to, or none to start one here.
    """

    address: str | None = "auto"

    def map(self, function: Callable[..., R], common: Any, items: Iterable[tuple[Any, ...]]) -> Iterator[R]:
        """Call ``function(common, *item)`` for every item, as tasks of the cluster.

        A task whose node dies is given to another one, up to five times, and so is one whose result was lost with it:
        the function must give the same result again. No more tasks are under way than keep the cluster busy.

        Args:
            function: A function of an importable module.
            common: The first argument of all calls, sent to every node once.
            items: The other arguments.

        Yields:
            The results, in the order of the items.

        Raises:
            ConfigError: Ray is not installed, there is no such cluster, or a node does not see a file.
            TriviumError: a task failed again and again.
        """
        ray = self.connect()
        task = ray.remote(max_retries=5)(function)
        shared, under_way = ray.put(common), deque[Any]()
        busy = 2 + int(ray.cluster_resources().get("CPU", 1))
        try:
            for item in items:
                under_way.append(task.remote(shared, *item))
                if len(under_way) >= busy:
                    yield ray.get(under_way.popleft())
            while under_way:
                yield ray.get(under_way.popleft())
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, TriviumError):
                raise error.cause from None
            if isinstance(error.cause, OSError):
                raise ConfigError(
                    f"engine: expected that every node of the cluster sees the files of this machine, found "
                    f"{error.cause}. Let the cache folder (TRIVIUM_CACHE) lie on a file system that they share."
                ) from error
            raise
        except ray.exceptions.RayError as error:
            raise TriviumError(f"engine: the cluster gave a task up: {error}") from error

    def connect(self) -> Any:
        """The module ``ray``, connected to the cluster.

        Raises:
            ConfigError: Ray is not installed, or there is no such cluster.
        """
        try:
            import ray
        except ImportError:
            raise ConfigError(
                "engine: {kind: ray} needs Ray, which is not installed: pip install 'trivium[ray]', or engine: local."
            ) from None
        if not ray.is_initialized():
            try:
                ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise ConfigError(
                    f"engine.address: expected a running Ray cluster at '{self.address}', found none ({error}). Start "
                    "one with `ray start --head`, or give address: null to start one on this machine alone."
                ) from error
        return ray


_RAY: ContextVar[Ray | None] = ContextVar("trivium.engine", default=None)


def ray() -> Ray | None:
    """The cluster that ``using`` named, if it did."""
    return _RAY.get()


@contextmanager
def using(cluster: Ray | None) -> Iterator[None]:
    """Do what can be spread out on a cluster, inside the ``with`` block; on this machine, if it is none."""
    before = _RAY.set(cluster)
    try:
        yield
    finally:
        _RAY.reset(before)


def run_all(
    function: str,
    items: Sequence[JSON],
    *,
    workers: int = 1,
    receive: Receive = lambda _item, _message: None,
    log: Path | None = None,
) -> list[JSON | TriviumError]:
    """Call ``function(item, send)`` for every item.

    Args:
        function: ``"module:name"``. It takes an item and a ``send`` for messages, and returns JSON.
        items: What to call it with, JSON each.
        workers: How many processes; 1 calls it in this one. The machine's cores are shared out among them.
        receive: Told the index of an item and a message about it, in this process.
        log: File that takes what workers print.

    Returns:
        In the order of the items: what the function returned, or the TriviumError that it raised.

    Raises:
        RuntimeError: a worker died, or the function raised there something that is not a TriviumError. In this process
            such an exception is raised as it is.
    """
    if workers == 1 or len(items) < 2:
        return [_here(function, i, item, receive) for i, item in enumerate(items)]
    results: dict[int, JSON | TriviumError] = {}
    inbox: Queue[tuple[int, int, JSON]] = Queue()
    todo = list(enumerate(items))[::-1]
    many = min(workers, len(items))
    threads = max(1, cores() // many)
    crew = [_Worker(n, inbox, threads, log) for n in range(many)]
    try:
        for worker in crew:
            worker.give(function, todo.pop())
        while len(results) < len(items):
            sender, index, answer = inbox.get()
            if "message" in answer:
                receive(index, answer["message"])
                continue
            if "warning" in answer:
                _LOG.warning("%s", answer["warning"])
                continue
            if "crash" in answer:
                raise RuntimeError(f"item {index} of {function} failed in a worker:\n{answer['crash']}")
            results[index] = _error(answer["error"]) if "error" in answer else answer["result"]
            if todo:
                crew[sender].give(function, todo.pop())
    finally:
        for worker in crew:
            worker.stop()
    return [results[i] for i in range(len(items))]


def _here(function: str, index: int, item: JSON, receive: Receive) -> JSON | TriviumError:
    try:
        return _find(function)(item, lambda message: receive(index, message))
    except TriviumError as error:
        return error


class _Worker:
    """A process at the other end of two pipes, and the thread that listens to it."""

    def __init__(self, number: int, inbox: "Queue[tuple[int, int, JSON]]", threads: int, log: Path | None) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        sink: IO[str] | int = log.open("a", encoding="utf-8") if log is not None else subprocess.DEVNULL
        self.number, self.inbox, self.index = number, inbox, -1
        self.process = subprocess.Popen(  # nosec B603  # this Python, a module of ours
            [sys.executable, "-m", "trivium.engine"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
            encoding="utf-8",
            env=environment,
        )
        if not isinstance(sink, int):
            sink.close()
        self.thread = threading.Thread(target=self._listen, daemon=True)
        self.thread.start()

    def give(self, function: str, numbered: tuple[int, JSON]) -> None:
        assert self.process.stdin is not None
        self.index, item = numbered
        asked = json.dumps({"function": function, "item": item, "path": [*map(str, sys.path)]})
        with suppress(BrokenPipeError):  # it died: whoever listens to it says how
            self.process.stdin.write(asked + "\n")
            self.process.stdin.flush()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):  # it may be killed in the middle of one
                self.inbox.put((self.number, self.index, json.loads(line)))
        status = self.process.wait()
        self.inbox.put((self.number, self.index, {"crash": f"the process ended with status {status}"}))

    def stop(self) -> None:
        """Closing its standard input ends a worker, whatever it is doing."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()
        self.thread.join()
        self.process.stdout.close()


class _Telling(logging.Handler):
    """Hands warnings to whoever asked, who shows them: what a worker prints goes to a file that nobody may read."""

    def __init__(self, say: Send) -> None:
        super().__init__(logging.WARNING)
        self.say = say

    def emit(self, record: logging.LogRecord) -> None:
        self.say({"warning": record.getMessage()})


def _tell(error: TriviumError) -> JSON:
    """An error as JSON. A class that is not ours goes by the nearest of ours that it is."""
    kind = next(cls.__name__ for cls in type(error).__mro__ if getattr(errors, cls.__name__, None) is cls)
    return {"kind": kind, "text": str(error)}


def _error(told: JSON) -> TriviumError:
    kind: type[TriviumError] = getattr(errors, told["kind"])
    return kind(told["text"])


def _find(function: str) -> Callable[[JSON, Send], JSON]:
    module, name = function.split(":")
    found: Callable[[JSON, Send], JSON] = getattr(importlib.import_module(module), name)
    return found


def _serve() -> None:
    """A worker's life: a thread reads items until its standard input closes, which ends the process at once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; whoever asked is told, and closes the pipe
    questions, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)  # a program that is started here must not read the questions,
    os.dup2(2, 1)  # and what it or a library prints must not mix with the answers
    sys.stdout = sys.stderr
    items: Queue[str] = Queue()

    def read() -> None:
        for line in questions:
            items.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()

    one_at_a_time = threading.Lock()

    def say(answer: JSON) -> None:
        with one_at_a_time:
            answers.write(json.dumps(answer) + "\n")
            answers.flush()

    logging.getLogger("trivium").addHandler(_Telling(say))
    while True:
        asked = json.loads(items.get())
        sys.path[:] = asked["path"]
        try:
            say({"result": _find(asked["function"])(asked["item"], lambda message: say({"message": message}))})
        except TriviumError as error:
            say({"error": _tell(error)})
        except Exception:
            import traceback

            say({"crash": traceback.format_exc()})


if __name__ == "__main__":
    _serve()
