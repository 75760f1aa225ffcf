"""Levels: what w and the architecture weights learn from in one step of a search, and by which gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from dots_core.errors import UsageError, nearest, quoted
from dots_core.plan.gradients import FirstOrder, Gradient, MixedLevel, SecondOrder
from dots_core.plan.plan import Update
from dots_core.search_space.registry import Registry

ARCHITECTURE = ("alpha", "beta")


def _said(what: str) -> dict[str, str]:
    return {"what": what}


@dataclass(frozen=True)
class StepSettings:
    """What can be set about a step. Each level takes some of it; the rest must be left as it is here.

    Attributes
    ----------
    order : int
        2: look one step of w ahead.
    hypergradient : str
        Of order 2: by ``"finite-difference"``, or ``"exact"``.
    splits : str
        Disjoint ``"halves"`` of the training images, one of w and one of the architecture weights, or ``"thirds"``,
        of w, α and β.
    joint : bool
        All gradients are taken before anything is updated.
    training_weight, validation_weight : float
        Of the two losses that are mixed.
    once_at : float, optional
        The share of an epoch after which architecture weights are updated, once an epoch; None: in every step.
    regularisation : float
        λ of the passive-aggressive regularisation of β (`dots_core.plan.plan.Update`).
    shuffle : bool
        Whether the images are read in a new order in every epoch.
    """

    order: int = field(default=1, metadata=_said("a look ahead of two levels"))
    hypergradient: str = field(default="finite-difference", metadata=_said("how a gradient of second order is taken"))
    splits: str = field(default="halves", metadata=_said("disjoint images for each of several levels"))
    joint: bool = field(default=False, metadata=_said("updates of several levels applied together"))
    training_weight: float = field(default=1.0, metadata=_said("the weight of one of two losses that are mixed"))
    validation_weight: float = field(default=1.0, metadata=_said("the weight of one of two losses that are mixed"))
    once_at: float | None = field(default=None, metadata=_said("an update once an epoch"))
    regularisation: float = field(default=0.0, metadata=_said("a loss of beta"))
    shuffle: bool = field(default=True, metadata=_said("the order of the images"))


STEP_SETTINGS = {each.name: each for each in fields(StepSettings)}


class Level(ABC):
    """One rule of what a step of a search is.

    Attributes
    ----------
    name : str
    about : str
        What it is and where it comes from.
    settings : tuple of str
        Names of the `StepSettings` it takes.
    without : mapping of str to str
        Why it does not take some of the others, to go on after "which": ``{"splits": "learns from all images"}``.
    """

    name: str
    about: str
    settings: tuple[str, ...] = ()
    without: Mapping[str, str] = {}

    @abstractmethod
    def updates(self, step: StepSettings, architecture: tuple[str, ...]) -> tuple[Update, ...]:
        """Return the updates of one step, in the order in which they are made.

        Parameters
        ----------
        step : StepSettings
        architecture : tuple of str
            What is searched: ``("alpha",)``, or ``("alpha", "beta")``.
        """

    def refusal(self, step: StepSettings, stage: str) -> str | None:
        """Say why settings that it takes do not go together, and what helps; None if they do.

        Parameters
        ----------
        stage : str
            Whose settings they are: keys are of the form ``operation.order``.
        """
        return None

    def weights_split(self, step: StepSettings) -> str:
        """Return the images that w learns from; UsageError unless exactly one update names w."""
        splits = [update.split for update in self.updates(step, ARCHITECTURE) if "w" in update.groups]
        if len(splits) != 1:
            raise UsageError(f"the level '{self.name}' has {len(splits)} updates of w, not 1; mend its package")
        return splits[0]

    def validation(self, step: StepSettings) -> str:
        """Return the images that a search is measured on: those that only architecture weights learn from, or test."""
        weights = self.weights_split(step)
        others = [u.split for u in self.updates(step, ARCHITECTURE) if u.split not in (weights, "all")]
        return others[0] if others and weights != "all" else "test"


def _check_settings(level: Level) -> None:
    for name in (*level.settings, *level.without):
        if name not in STEP_SETTINGS:
            raise UsageError(
                f"the level '{quoted(level.name)}' names the setting '{quoted(name)}', which there is not"
                f"{nearest(quoted(name), tuple(STEP_SETTINGS))}; known: {', '.join(STEP_SETTINGS)}"
            )


LEVELS: Registry[Level] = Registry("level", "dots.levels", Level, _check_settings)
"""All levels; a package adds its own by an entry point of the group ``dots.levels``."""


class TwoLevel(Level):
    """w learns from some images, architecture weights from others.

    Attributes
    ----------
    weights_first : bool
        Whether w is updated before the architecture weights.
    """

    settings: tuple[str, ...] = ("splits", "joint", "once_at", "regularisation", "shuffle")
    weights_first: bool = False

    @abstractmethod
    def gradient(self, step: StepSettings) -> Gradient:
        """Return the gradient of the architecture weights."""

    def updates(self, step: StepSettings, architecture: tuple[str, ...]) -> tuple[Update, ...]:
        # Where α and β learn from the same half, one update serves both.
        parts: tuple[tuple[tuple[str, ...], str], ...] = ((architecture, "half-b"),)
        if step.splits == "thirds":
            parts = ((("alpha",), "third-b"), (("beta",), "third-c"))
        gradient = self.gradient(step)
        searched = [Update(groups, split, step.shuffle, gradient, once_at=step.once_at) for groups, split in parts]
        if step.regularisation:
            searched[-1] = replace(searched[-1], regularisation=step.regularisation)
        weights = Update(("w",), "third-a" if step.splits == "thirds" else "half-a", step.shuffle)
        *before, last = (weights, *searched) if self.weights_first else (*searched, weights)
        return (*(replace(update, joint=step.joint) for update in before), last)


class _Bi(TwoLevel):
    name = "bi"
    about = "α and β learn from images that w does not learn from, then w from its own (DARTS; TopoNAS alg. 1, 8-10)"
    settings = (*TwoLevel.settings, "order", "hypergradient")

    def gradient(self, step: StepSettings) -> Gradient:
        return SecondOrder(step.hypergradient == "exact") if step.order == 2 else FirstOrder()

    def refusal(self, step: StepSettings, stage: str) -> str | None:
        if step.hypergradient == "finite-difference" or step.order == 2:
            return None
        return (
            f"{stage}.hypergradient is {step.hypergradient}, which is of second order; set {stage}.order=2, or "
            f"{stage}.hypergradient=finite-difference"
        )


class _One(Level):
    name = "one"
    about = "w, α and β learn from all images at once (SNAS; the topology search of DOTS)"
    settings = ("regularisation", "shuffle")
    without: Mapping[str, str] = {
        "splits": "learns from all images",
        "joint": "takes all gradients at the old point anyway",
        "once_at": "updates everything in every step",
    }

    def updates(self, step: StepSettings, architecture: tuple[str, ...]) -> tuple[Update, ...]:
        # Here λ·r(β) is part of the loss of everything.
        return (Update(("w", *architecture), "all", step.shuffle, regularisation=step.regularisation),)


class _Mixed(TwoLevel):
    name = "mixed"
    about = "w, then α and β, from the losses of w's images and of their own together (MiLeNAS; TopoNAS alg. 1, 4-6)"
    settings = (*TwoLevel.settings, "training_weight", "validation_weight")
    weights_first = True

    def gradient(self, step: StepSettings) -> Gradient:
        return MixedLevel(step.validation_weight, step.training_weight)

    def refusal(self, step: StepSettings, stage: str) -> str | None:
        if not step.joint or step.once_at is None:
            return None
        return (
            f"{stage}.joint makes w wait for architecture weights, which {stage}.once_at updates once an epoch; set "
            f"{stage}.joint=false, or {stage}.once_at=null"
        )


for _level in (_Bi(), _One(), _Mixed()):
    LEVELS.register(_level)
