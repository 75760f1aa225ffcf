"""How temperatures and learning rates change from epoch to epoch."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from dots_core.errors import UsageError, quoted
from dots_core.search_space.registry import Registry


class Schedule(ABC):
    """A number from epoch to epoch. A frozen dataclass, whose fields tell plans apart."""

    @abstractmethod
    def at(self, epoch: int, epochs: int) -> float:
        """Return the value in an epoch, counted from 0, of ``epochs``."""

    def scaled(self, factor: float) -> Schedule:
        """Return the schedule whose every value is ``factor`` times this one's."""
        return Scaled(self, factor)


def value_at(schedule: Schedule, epoch: int, epochs: int) -> float:
    """Return the value of a schedule in an epoch, counted from 0, of ``epochs``.

    Raises
    ------
    UsageError
        If it is no finite number, or the schedule none.
    """
    if not isinstance(schedule, Schedule):
        raise UsageError(
            f"{quoted(repr(schedule))} is no schedule; make it an object of a frozen dataclass that extends "
            "dots_core.plan.schedules.Schedule"
        )
    value = schedule.at(epoch, epochs)
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not math.isfinite(value):
        raise UsageError(
            f"{schedule} gives {quoted(repr(value))} in epoch {epoch + 1} of {epochs}, which is no finite number; "
            "change its settings, or choose another schedule"
        )
    return float(value)


@dataclass(frozen=True)
class Scaled(Schedule):
    """A multiple of another schedule."""

    schedule: Schedule
    factor: float

    def at(self, epoch: int, epochs: int) -> float:
        return self.factor * self.schedule.at(epoch, epochs)


@dataclass(frozen=True)
class Constant(Schedule):
    """The same value throughout."""

    value: float

    def at(self, epoch: int, epochs: int) -> float:
        return self.value

    def scaled(self, factor: float) -> Constant:
        return Constant(self.value * factor)


@dataclass(frozen=True)
class Exponential(Schedule):
    """T(t) = T0·θ^t, not below the floor (DOTS eq. 9); t = 0 in the first epoch."""

    start: float
    rate: float
    floor: float = 0.0

    def at(self, epoch: int, epochs: int) -> float:
        return max(self.start * self.rate**epoch, self.floor)

    def scaled(self, factor: float) -> Exponential:
        return Exponential(self.start * factor, self.rate, self.floor * factor)


@dataclass(frozen=True)
class Linear(Schedule):
    """From start in the first epoch to end in the last."""

    start: float
    end: float

    def at(self, epoch: int, epochs: int) -> float:
        return self.start + (self.end - self.start) * epoch / max(epochs - 1, 1)

    def scaled(self, factor: float) -> Linear:
        return Linear(self.start * factor, self.end * factor)


@dataclass(frozen=True)
class Cosine(Schedule):
    """end + ½(start − end)(1 + cos(π t / epochs)), per epoch."""

    start: float
    end: float = 0.0

    def at(self, epoch: int, epochs: int) -> float:
        return self.end + 0.5 * (self.start - self.end) * (1.0 + math.cos(math.pi * epoch / epochs))


@dataclass(frozen=True)
class LinearDecay(Schedule):
    """end + (start − end)(1 − t / epochs), per epoch: like `Cosine` it would reach its end after the last epoch."""

    start: float
    end: float = 0.0

    def at(self, epoch: int, epochs: int) -> float:
        return self.end + (self.start - self.end) * (1.0 - epoch / epochs)


@dataclass(frozen=True)
class Warmup(Schedule):
    """The (t + 1)/warmup-th part of another schedule in its first epochs (PC-DARTS, training on ImageNet).

    On a straight line from 0 before the first epoch, so that no epoch is spent at 0.

    Attributes
    ----------
    schedule : Schedule
        What is warmed up to; it runs on from the first epoch.
    epochs : int
    """

    schedule: Schedule
    epochs: int

    def at(self, epoch: int, epochs: int) -> float:
        return min(1.0, (epoch + 1) / self.epochs) * self.schedule.at(epoch, epochs)


class TemperatureSchedule(ABC):
    """One shape of a temperature.

    Attributes
    ----------
    name : str
    about : str
        What it is and where it comes from.
    steady : bool
        Whether it is the same in every epoch.
    """

    name: str
    about: str
    steady: bool = False

    @abstractmethod
    def schedule(self, start: float, rate: float, end: float) -> Schedule:
        """Return the schedule of these settings, of which it may need a part."""

    @abstractmethod
    def stays_positive(self, start: float, rate: float, end: float) -> bool:
        """Whether no temperature is 0 or below; ``start`` is above."""

    def shortened(self, rate: float, epochs: int, fewer: int) -> float:
        """Return the rate by which it ends in ``fewer`` epochs where it ends in ``epochs`` by ``rate``."""
        return rate


TEMPERATURE_SCHEDULES: Registry[TemperatureSchedule] = Registry(
    "temperature schedule", "dots.temperatures", TemperatureSchedule
)
"""All shapes of temperatures; a package adds its own by an entry point of the group ``dots.temperatures``."""


class _Constant(TemperatureSchedule):
    name = "constant"
    about = "start throughout"
    steady = True

    def schedule(self, start: float, rate: float, end: float) -> Constant:
        return Constant(start)

    def stays_positive(self, start: float, rate: float, end: float) -> bool:
        return True


class _Exponential(TemperatureSchedule):
    name = "exponential"
    about = "start·rate^t, not below end (DOTS eq. 9)"

    def schedule(self, start: float, rate: float, end: float) -> Exponential:
        return Exponential(start, rate, end)

    def stays_positive(self, start: float, rate: float, end: float) -> bool:
        return 0 < rate <= 1

    def shortened(self, rate: float, epochs: int, fewer: int) -> float:
        return rate if fewer == epochs else float(rate ** ((epochs - 1) / (fewer - 1)))


class _Linear(TemperatureSchedule):
    name = "linear"
    about = "on a straight line from start in the first epoch to end in the last (GDAS)"

    def schedule(self, start: float, rate: float, end: float) -> Linear:
        return Linear(start, end)

    def stays_positive(self, start: float, rate: float, end: float) -> bool:
        return end > 0


for _temperature in (_Constant(), _Exponential(), _Linear()):
    TEMPERATURE_SCHEDULES.register(_temperature)


def temperature_schedule(kind: str, start: float, rate: float, end: float) -> Schedule:
    """Return the temperature schedule of a name, one of `TEMPERATURE_SCHEDULES`.

    Raises
    ------
    UsageError
        If the name is unknown or a temperature is not positive.
    """
    shape = TEMPERATURE_SCHEDULES[kind]
    if start <= 0 or not shape.stays_positive(start, rate, end):
        raise UsageError(f"a {kind} temperature from {start} (rate {rate}, end {end}) does not stay positive")
    return shape.schedule(start, rate, end)


class RateSchedule(ABC):
    """One shape of the learning rate of w.

    Attributes
    ----------
    name : str
    about : str
        What it is and where it comes from.
    """

    name: str
    about: str

    @abstractmethod
    def schedule(self, start: float, end: float) -> Schedule:
        """Return the schedule between two rates."""


RATE_SCHEDULES: Registry[RateSchedule] = Registry("schedule of a learning rate", "dots.rates", RateSchedule)
"""All shapes of learning rates; a package adds its own by an entry point of the group ``dots.rates``."""


class _ConstantRate(RateSchedule):
    name = "constant"
    about = "learning_rate throughout"

    def schedule(self, start: float, end: float) -> Constant:
        return Constant(start)


class _LinearRate(RateSchedule):
    name = "linear"
    about = "on a straight line to final_learning_rate, which it would reach after the last epoch (TopoNAS on ImageNet)"

    def schedule(self, start: float, end: float) -> LinearDecay:
        return LinearDecay(start, end)


class _CosineRate(RateSchedule):
    name = "cosine"
    about = "half a cosine to final_learning_rate, which it would reach after the last epoch (DARTS)"

    def schedule(self, start: float, end: float) -> Cosine:
        return Cosine(start, end)


for _rate in (_ConstantRate(), _LinearRate(), _CosineRate()):
    RATE_SCHEDULES.register(_rate)


def rate_schedule(kind: str, start: float, end: float, warmup: int = 0) -> Schedule:
    """Return the schedule of a learning rate of a name, one of `RATE_SCHEDULES`.

    Parameters
    ----------
    warmup : int
        Epochs of linear warm-up; 0 for none.

    Raises
    ------
    UsageError
        If the name is unknown.
    """
    schedule = RATE_SCHEDULES[kind].schedule(start, end)
    return Warmup(schedule, warmup) if warmup else schedule
