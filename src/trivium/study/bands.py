"""Numbers that are not known for sure: what is expected, and the ends that are meant to hold nine times in ten."""

import math
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self, TypeVar

import numpy as np

from trivium.core import JSON

Part = TypeVar("Part", bound=Hashable)

_OFF = 1.2  # how many times more or less what was measured once may take the next time
_DOUBLED = 1.12  # the same for each doubling of what was measured
_ENOUGH = 0.25  # seconds by which a call must grow to be told from noise
_MOST = 5.0  # seconds after which no larger call is tried


@dataclass(frozen=True)
class Band:
    """A number that is foreseen.

    Attributes:
        value: What is expected.
        low: What it is not meant to fall below; with ``high``, nine times in ten.
        high: What it should not exceed.
    """

    value: float
    low: float
    high: float

    @classmethod
    def exactly(cls, value: float) -> Self:
        """A number that is known."""
        return cls(value, value, value)

    @classmethod
    def of(cls, samples: Sequence[float]) -> Self:
        """The mean of some measurements, and where eight of ten of them lie.

        >>> Band.of([2.0, 1.0, 3.0])
        Band(value=2.0, low=1.2, high=2.8)
        """
        low, mean, high = np.quantile(samples, 0.1), np.mean(samples), np.quantile(samples, 0.9)
        return cls(float(mean), float(min(low, mean)), float(max(high, mean)))

    @classmethod
    def between(cls, least: float, most: float) -> Self:
        """Somewhere between what is least and what is most; the middle is as good a guess as any."""
        return cls((least + most) / 2, least, most)

    @classmethod
    def sum(cls, bands: Iterable["Band"]) -> Self:
        """All together. What makes one of them longer (a slow hour of the machine) makes all longer: ends add up."""
        found = list(bands)
        ends = (sum(getattr(band, end) for band in found) for end in ("value", "low", "high"))
        return cls(*map(float, ends))

    def __add__(self, other: "Band") -> "Band":
        return Band.sum([self, other])

    def __mul__(self, times: "float | Band") -> "Band":
        """So many times, or times a number that is not known for sure either; neither is below 0."""
        other = times if isinstance(times, Band) else Band.exactly(times)
        return Band(self.value * other.value, self.low * other.low, self.high * other.high)

    def off(self, times: float = _OFF) -> "Band":
        """The same with ends that are so many times further off."""
        return Band(self.value, self.low / times, self.high * times)

    def named(self, name: str) -> dict[str, JSON]:
        """As JSON has it.

        >>> Band(2.0, 1.5, 3.0).named("seconds")
        {'seconds': 2.0, 'seconds_low': 1.5, 'seconds_high': 3.0}
        """
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


@dataclass(frozen=True)
class Line:
    """How long something takes, as far as it was measured.

    Attributes:
        fixed: Seconds, whatever the size.
        slope: Seconds more for each unit of size.
        reached: The largest size that was measured.
    """

    fixed: float
    slope: float
    reached: int

    def at(self, size: float) -> Band:
        """How long it takes at a size; the further beyond what was measured, the wider."""
        beyond = max(0.0, math.log2(max(1.0, size) / max(1, self.reached)))
        return Band.exactly(self.fixed) + Band.exactly(self.slope * size).off(_OFF * _DOUBLED**beyond)


def growing(measure: Callable[[int], float], most: int, start: int) -> Line:
    """Measure at a size, at twice the size, and so on until the difference tells, and put a line through the last two.

    Args:
        measure: Seconds at a size. It is called twice at the first: what it loads and compiles is fixed.
        most: The size that is asked about: none beyond it is tried.
        start: The first.

    >>> growing(lambda n: 1.0 + 0.01 * n, most=1000, start=10)
    Line(fixed=1.0, slope=0.01, reached=80)
    """
    size = max(1, min(start, most))
    first, seconds = measure(size), measure(size)
    loading, slope = max(0.0, first - seconds), seconds / size
    while size < most and seconds < _MOST:
        before, smaller, size = seconds, size, min(2 * size, most)
        seconds = measure(size)
        slope = max(0.0, (seconds - before) / (size - smaller))
        if seconds - before > _ENOUGH:
            break
    return Line(round(max(0.0, seconds - slope * size) + loading, 6), round(slope, 9), size)


def timed(call: Callable[[], object]) -> float:
    """Seconds that a call takes, on whatever device."""
    from trivium.encoders.encoder import torch_device

    begun = time.perf_counter()
    call()
    if torch_device() == "cuda":
        import torch

        torch.cuda.synchronize()
    return time.perf_counter() - begun


@dataclass
class Aside:
    """A clock for what is done on the way and is not to be counted.

    Attributes:
        seconds: So far.
    """

    seconds: float = 0.0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Count what is done inside the ``with`` block, once where such blocks are in each other."""
        before, begun = self.seconds, time.perf_counter()
        try:
            yield
        finally:
            self.seconds = before + time.perf_counter() - begun


def makespan(jobs: Sequence[Mapping[Part, float]], workers: int) -> float:
    """When the last of some jobs ends, where each worker takes the next as soon as it is free.

    A job is its parts, in order, and how long each takes. What an earlier job has among its parts is not done twice:
    who needs it waits until it is there.

    >>> makespan([{"a": 3.0}, {"b": 1.0}, {"c": 1.0}, {"d": 2.0}], 2)
    4.0
    >>> makespan([{"a": 3.0, "b": 1.0}, {"a": 3.0, "c": 1.0}, {"a": 3.0, "d": 1.0}], 2)
    5.0
    """
    free, there = [0.0] * max(1, workers), dict[Part, float]()
    for job in jobs:
        first = free.index(min(free))
        for part, seconds in job.items():
            there.setdefault(part, free[first] + seconds)
            free[first] = max(free[first], there[part])
    return max(free)


def spread_out(jobs: Sequence[Mapping[Part, Band]], workers: int) -> Band:
    """The same for jobs whose lengths are not known for sure."""
    ends = ("value", "low", "high")
    return Band(
        *(makespan([{part: getattr(one, end) for part, one in job.items()} for job in jobs], workers) for end in ends)
    )
