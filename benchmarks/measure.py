"""Interleaved samples, medians and their intervals. Never an average: other programs run on the machine too."""

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from benchmarks.model import Interval

_RESAMPLES = 2000
# What was drawn must not be the reason that two runs differ.
_DRAW = random.Random(20)

#: Given a number of repetitions, returns the seconds that one of them took.
Timed = Callable[[int], float]


def interval(samples: Sequence[float]) -> Interval:
    """Return the median of samples and the 95 % bootstrap interval of that median."""
    if len(samples) < 3:
        return Interval(statistics.median(samples), min(samples), max(samples))
    medians = sorted(statistics.median(_DRAW.choices(samples, k=len(samples))) for _ in range(_RESAMPLES))
    return Interval(statistics.median(samples), medians[int(0.025 * _RESAMPLES)], medians[int(0.975 * _RESAMPLES) - 1])


def interleaved(subjects: Mapping[str, Timed], *, rounds: int, number: int) -> dict[str, list[float]]:
    """Return one sample per round of each subject, in seconds; in each round they run one after the other, shuffled.

    What the machine does otherwise then falls on all of them alike, and samples of a round may be compared.
    """
    samples: dict[str, list[float]] = {name: [] for name in subjects}
    order = list(subjects)
    for timed in subjects.values():
        timed(max(1, number // 10))
    with quiet():
        for _ in range(rounds):
            _DRAW.shuffle(order)
            for name in order:
                samples[name].append(subjects[name](number))
    return samples


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the garbage collector out of the figures, as timeit does."""
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def repeated(function: Callable[[], object]) -> Timed:
    """Return what times a synchronous function, in CPU time of this process."""

    def timed(number: int) -> float:
        laps = [None] * number
        start = time.process_time_ns()
        for _ in laps:
            function()
        return (time.process_time_ns() - start) / number / 1e9

    return timed


def minus(samples: Sequence[float], base: Sequence[float]) -> list[float]:
    """Return the differences round by round."""
    return [sample - other for sample, other in zip(samples, base, strict=True)]


def over(samples: Sequence[float], base: Sequence[float]) -> list[float]:
    """Return the ratios round by round."""
    return [sample / other for sample, other in zip(samples, base, strict=True)]


def scaled(samples: Sequence[float], factor: float) -> Interval:
    """Return the interval of samples in another unit."""
    return interval([sample * factor for sample in samples])
