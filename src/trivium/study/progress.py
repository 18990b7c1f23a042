"""What a study says while it runs: phases with bars and an honest time to go."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn


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
    """Bars on a terminal; plain lines, a few for each phase, where the output is no terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def phase(self, name: str) -> Iterator[Bar]:
        """A bar with time spent and time to go, or a line at every quarter."""
        if not self.console.is_terminal:
            yield _Lines(self, name)
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, speed_estimate_period=120) as progress:
            shown = progress.add_task(name, total=None)
            yield lambda done, total: progress.update(shown, completed=done, total=total)


class _Lines:
    """A phase in plain lines."""

    def __init__(self, terminal: Terminal, name: str) -> None:
        self.terminal, self.name, self.quarter = terminal, name, -1

    def __call__(self, done: float, total: float) -> None:
        quarter = int(4 * done / total) if total else 4
        if quarter > self.quarter:
            self.quarter = quarter
            self.terminal.say(f"{self.name}: {min(100, 25 * quarter)} %")
