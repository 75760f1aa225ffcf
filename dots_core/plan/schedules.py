"""How temperatures and learning rates change from epoch to epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dots_core.errors import UsageError


@dataclass(frozen=True)
class Constant:
    """The same value throughout."""

    value: float

    def at(self, epoch: int, epochs: int) -> float:
        """Return the value in an epoch, counted from 0, of a phase of ``epochs``."""
        return self.value

    def scaled(self, factor: float) -> Constant:
        """Return the schedule whose every value is ``factor`` times this one's."""
        return Constant(self.value * factor)


@dataclass(frozen=True)
class Exponential:
    """T(t) = T0·θ^t, not below the floor (DOTS eq. 9); t = 0 in the first epoch."""

    start: float
    rate: float
    floor: float = 0.0

    def at(self, epoch: int, epochs: int) -> float:
        """Return the value in an epoch, counted from 0, of a phase of ``epochs``."""
        return max(self.start * self.rate**epoch, self.floor)

    def scaled(self, factor: float) -> Exponential:
        """Return the schedule whose every value is ``factor`` times this one's."""
        return Exponential(self.start * factor, self.rate, self.floor * factor)


@dataclass(frozen=True)
class Linear:
    """From start in the first epoch to end in the last."""

    start: float
    end: float

    def at(self, epoch: int, epochs: int) -> float:
        """Return the value in an epoch, counted from 0, of a phase of ``epochs``."""
        return self.start + (self.end - self.start) * epoch / max(epochs - 1, 1)

    def scaled(self, factor: float) -> Linear:
        """Return the schedule whose every value is ``factor`` times this one's."""
        return Linear(self.start * factor, self.end * factor)


@dataclass(frozen=True)
class Cosine:
    """end + ½(start − end)(1 + cos(π t / epochs)), per epoch."""

    start: float
    end: float = 0.0

    def at(self, epoch: int, epochs: int) -> float:
        """Return the value in an epoch, counted from 0, of ``epochs``."""
        return self.end + 0.5 * (self.start - self.end) * (1.0 + math.cos(math.pi * epoch / epochs))


@dataclass(frozen=True)
class LinearDecay:
    """end + (start − end)(1 − t / epochs), per epoch: like `Cosine` it would reach its end after the last epoch."""

    start: float
    end: float = 0.0

    def at(self, epoch: int, epochs: int) -> float:
        """Return the value in an epoch, counted from 0, of ``epochs``."""
        return self.end + (self.start - self.end) * (1.0 - epoch / epochs)


@dataclass(frozen=True)
class Warmup:
    """The (t + 1)/warmup-th part of another schedule in its first epochs (PC-DARTS, training on ImageNet).

    On a straight line from 0 before the first epoch, so that no epoch is spent at 0.

    Attributes
    ----------
    schedule : Constant, LinearDecay or Cosine
        What is warmed up to; it runs on from the first epoch.
    epochs : int
    """

    schedule: Constant | LinearDecay | Cosine
    epochs: int

    def at(self, epoch: int, epochs: int) -> float:
        """Return the value in an epoch, counted from 0, of ``epochs``."""
        return min(1.0, (epoch + 1) / self.epochs) * self.schedule.at(epoch, epochs)


Schedule = Constant | Exponential | Linear | Cosine | LinearDecay | Warmup


def temperature_schedule(kind: str, start: float, rate: float, end: float) -> Constant | Exponential | Linear:
    """Return the temperature schedule of a name: ``constant``, ``exponential`` or ``linear``.

    Raises
    ------
    UsageError
        If the name is unknown or a temperature is not positive.
    """
    if start <= 0 or (kind == "linear" and end <= 0) or (kind == "exponential" and not 0 < rate <= 1):
        raise UsageError(f"a {kind} temperature from {start} (rate {rate}, end {end}) does not stay positive")
    if kind == "constant":
        return Constant(start)
    if kind == "exponential":
        return Exponential(start, rate, end)
    if kind == "linear":
        return Linear(start, end)
    raise UsageError(f"unknown temperature schedule '{kind}'; known: constant, exponential, linear")


def rate_schedule(kind: str, start: float, end: float, warmup: int = 0) -> Constant | LinearDecay | Cosine | Warmup:
    """Return the schedule of a learning rate: ``constant``, ``linear`` or ``cosine``.

    Parameters
    ----------
    warmup : int
        Epochs of linear warm-up; 0 for none.

    Raises
    ------
    UsageError
        If the name is unknown.
    """
    schedule: Constant | LinearDecay | Cosine
    if kind == "constant":
        schedule = Constant(start)
    elif kind == "linear":
        schedule = LinearDecay(start, end)
    elif kind == "cosine":
        schedule = Cosine(start, end)
    else:
        raise UsageError(f"unknown schedule of a learning rate '{kind}'; known: constant, linear, cosine")
    return Warmup(schedule, warmup) if warmup else schedule
