"""What a study says while it runs: phases with bars and an honest time to go."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from trivium.study.report_text import duration


class Bar(Protocol):
    """One phase's bar."""

    def __call__(self, done: float, total: float) -> None:
        """Say how much is done."""
        ...


class Reporter(Protocol):
    """Where a study's words go."""

    def say(self, text: str) -> None:
        """Say something once."""
        ...

    def phase(self, name: str) -> AbstractContextManager[Bar]:
        """Enter a phase; the block gets a bar to move."""
        ...


class Silent:
    """Says nothing."""

    def say(self, text: str) -> None:
        """Say nothing."""

    @contextmanager
    def phase(self, name: str) -> Iterator[Bar]:
        """A bar that nobody sees."""
        yield _nothing


def _nothing(done: float, total: float) -> None:
    """Move no bar."""


class Terminal:
    """Bars on a terminal, a phase inside another below it; plain lines where the output is no terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.depth = 0
        self.bars: Progress | None = None

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def phase(self, name: str) -> Iterator[Bar]:
        """A bar with time spent and time to go; or a line at every quarter, of an inner phase one when it is done."""
        shown = f"  {name}" if self.depth else name
        self.depth += 1
        try:
            if self.console.is_terminal:
                with self._bar(shown) as bar:
                    yield bar
            else:
                yield _Lines(self, shown) if self.depth == 1 else _Line(self, shown)
        finally:
            self.depth -= 1

    @contextmanager
    def _bar(self, name: str) -> Iterator[Bar]:
        outermost = self.bars is None
        if self.bars is None:
            self.bars = _bars(self.console)
            self.bars.start()
        bars = self.bars
        shown = bars.add_task(name, total=None)
        try:
            yield lambda done, total: bars.update(shown, completed=done, total=total)
        finally:
            if outermost:
                bars.stop()
                self.bars = None
            else:
                bars.remove_task(shown)


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
        console=console,
        speed_estimate_period=120,
    )


class _Lines:
    """A phase in plain lines."""

    def __init__(self, terminal: Terminal, name: str) -> None:
        self.terminal, self.name, self.quarter = terminal, name, -1

    def __call__(self, done: float, total: float) -> None:
        quarter = int(4 * done / total) if total else 4
        if quarter > self.quarter:
            self.quarter = quarter
            self.terminal.say(f"{self.name}: {min(100, 25 * quarter)} %")


class _Line:
    """An inner phase in a plain line, when it is done."""

    def __init__(self, terminal: Terminal, name: str) -> None:
        self.terminal, self.name, self.begun, self.said = terminal, name, time.monotonic(), False

    def __call__(self, done: float, total: float) -> None:
        if done >= total and not self.said:
            self.said = True
            self.terminal.say(f"{self.name}: done in {duration(time.monotonic() - self.begun)}")


class Jobs:
    """Phases of jobs that go on side by side: one for the step that each is at, inside the phase they are part of.

    A step that is done when it is first heard of, because it was done before, shows nothing.
    """

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.steps: dict[int, tuple[str, ExitStack, Bar]] = {}

    def at(self, job: int, step: str, done: float, total: float) -> None:
        """Say that a job is at a step, and how much of it is done; the step before is over."""
        if job in self.steps and self.steps[job][0] != step:
            self._leave(job)
        if job not in self.steps:
            if done >= total:
                return
            stack = ExitStack()
            self.steps[job] = (step, stack, stack.enter_context(self.reporter.phase(step)))
        self.steps[job][2](done, total)
        if done >= total:
            self._leave(job)

    def close(self) -> None:
        """Leave what is under way: the last entered first."""
        for job in reversed(list(self.steps)):
            self._leave(job)

    def _leave(self, job: int) -> None:
        self.steps.pop(job)[1].close()
