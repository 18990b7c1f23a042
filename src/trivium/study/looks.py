"""How a study that adds seeds may look at its results more than once, and still be wrong no more often than it says."""

from dataclasses import dataclass

from trivium.study.statistics import ALPHA, Effect


@dataclass(frozen=True)
class Look:
    """A look at the results of so many seeds, and the level at which a difference is called there."""

    seeds: int
    level: float


def plan_looks(first: int, step: int, most: int) -> tuple[Look, ...]:
    """When a study looks, and at which level; settled before it begins.

    The levels add up to 0.05, so that the chance of calling any difference that is none is at most that, however the
    looks depend on each other. They grow with the seeds: after a share t of them, 0.05 · t² is spent. Early looks, at
    few seeds, are for effects that nobody could miss, and little is taken from the last.

    Args:
        first: Seeds at the first look.
        step: Seeds that are added at a time; before the last look, perhaps a few more.
        most: Seeds at the last look.

    Source: spending by a power of the share, Kim and DeMets 1987, "Design and analysis of group sequential tests based
    on the type I error spending rate function", Biometrika 74; Bonferroni's inequality in place of their integral.

    >>> [(look.seeds, round(look.level, 4)) for look in plan_looks(3, 3, 9)]
    [(3, 0.0056), (6, 0.0167), (9, 0.0278)]
    """
    counts = [first, *range(first + step, most - step + 1, step), most] if most > first else [first]
    spent = [ALPHA * (seeds / counts[-1]) ** 2 for seeds in counts]
    return tuple(
        Look(seeds, now - before) for seeds, now, before in zip(counts, spent, [0.0, *spent[:-1]], strict=True)
    )


def settled(effect: Effect, p_holm: float, questions: int, look: Look, last: Look) -> bool:
    """Whether more seeds are not worth their while: the difference is called, or will hardly ever be.

    One that even at the far end of its present 95 % interval would not be called at the last look is given up. That
    makes no false calls likelier, since it calls nothing.

    Args:
        effect: The difference.
        p_holm: Its p-value, corrected for the number of questions.
        questions: How many there are.
        look: This look.
        last: The last that is planned.
    """
    if look.seeds >= last.seeds or p_holm < look.level:
        return True
    largest = max(abs(effect.low), abs(effect.high))
    return largest < effect.at(last.seeds).half_width(last.level / questions)
