"""A search or a training as a value: stages of phases, each saying what is updated, on what data, at which temperature.

One runner (`dots_core.search.runner`) executes any plan on any engine. Nothing in here names a search
method: DOTS, DARTS and the training of a found cell differ only in their values.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dots_core.data import Augmentation
from dots_core.engine.protocol import GROUPS, Engine, Loss, Network, Optimizers, Runtime, Setup
from dots_core.engine.registry import computing
from dots_core.errors import UsageError, quoted
from dots_core.network.initialisation import initial_architecture, initial_weights
from dots_core.network.spec import NetworkSpec
from dots_core.plan.early_stop import EarlyStop
from dots_core.plan.gradients import FirstOrder, Gradient
from dots_core.plan.schedules import Constant, Cosine, Schedule, value_at
from dots_core.search_space.cell import CELL_TYPES, CellSpec
from dots_core.search_space.derivation import retain
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.mixing import Temperature
from dots_core.search_space.topology import Topology

SPLITS = ("all", "half-a", "half-b", "third-a", "third-b", "third-c")
"""The training images, or one of two disjoint halves or of three disjoint thirds of them."""

VALIDATION_SPLITS = ("none", *SPLITS[1:], "test")
"""Nothing, a part of the training images, or the test images."""


@dataclass(frozen=True)
class Update:
    """Which groups learn from which images, and how (`dots_core.search.step`).

    A one-level step is one update of several groups; a bi-level first-order step is an update
    of the architecture weights on one half followed by one of w on the other.

    Attributes
    ----------
    groups, split, shuffle
        What learns, from what, in which order.
    gradient : Gradient
        By what it learns (`dots_core.plan.gradients`).
    joint : bool
        Applied together with the next update, so that both gradients are taken at the old point.
    once_at : float, optional
        Made once an epoch, after this share of its steps (eDARTS §III-C); None: in every step.
    regularisation : float
        λ of the passive-aggressive regularisation that is part of the loss of β on the split, and so
        is scaled by the gradient's ``own_factor`` (TopoNAS eq. 14-15).
    """

    groups: tuple[str, ...]
    split: str
    shuffle: bool = True
    gradient: Gradient = field(default_factory=FirstOrder)
    joint: bool = False
    once_at: float | None = None
    regularisation: float = 0.0

    def __post_init__(self) -> None:
        if self.once_at is not None and not 0 <= self.once_at <= 1:
            raise UsageError(f"an update is made once at a share of an epoch between 0 and 1, not {self.once_at}")
        if "w" in self.groups and not self.gradient.of_weights:
            raise UsageError(f"the gradient {self.gradient} is of architecture weights, not of w")
        if "w" in self.groups and self.once_at is not None:
            raise UsageError("sparse updates are of architecture weights, not of w")
        if self.regularisation and "beta" not in self.groups:
            raise UsageError("passive-aggressive regularisation is of beta, which this update leaves alone")
        if not self.groups or any(group not in GROUPS for group in self.groups):
            raise UsageError(f"an update must name some of {', '.join(GROUPS)}, not {self.groups}")
        if self.split not in SPLITS:
            raise UsageError(f"unknown split '{self.split}'; known: {', '.join(SPLITS)}")


@dataclass(frozen=True)
class Phase:
    """Epochs that all do the same.

    Attributes
    ----------
    updates : tuple of Update
        Made in this order in every step. Exactly one of them updates w, and its split sets the
        number of steps in an epoch; other splits are read on and on.
    alpha_temperature, beta_temperature : Schedule
        Indexed by the epoch within the phase.
    early_stop : EarlyStop, optional
        When the phase ends before its last epoch. Schedules over the whole run stay indexed by the
        epochs that were run: what follows goes on where the phase ended.
    """

    name: str
    epochs: int
    updates: tuple[Update, ...]
    alpha_temperature: Schedule = field(default_factory=lambda: Constant(1.0))
    beta_temperature: Schedule = field(default_factory=lambda: Constant(1.0))
    early_stop: EarlyStop | None = None

    def __post_init__(self) -> None:
        if self.epochs < 0:
            raise UsageError(f"phase {self.name} has {self.epochs} epochs")
        if sum("w" in update.groups for update in self.updates) != 1:
            raise UsageError(f"phase {self.name} must update w exactly once a step")
        if self.updates[-1].joint:
            raise UsageError(f"the last update of phase {self.name} has no update after it to be joint with")
        self._check_joint()
        for epoch in range(self.epochs):
            self.temperature(epoch)

    def temperature(self, epoch: int) -> Temperature:
        """Return the temperatures of an epoch, counted from 0.

        Raises
        ------
        UsageError
            If a schedule gives no number above 0.
        """
        schedules = (self.alpha_temperature, self.beta_temperature)
        alpha, beta = (value_at(each, epoch, self.epochs) for each in schedules)
        for value, schedule in ((alpha, schedules[0]), (beta, schedules[1])):
            if value <= 0:
                raise UsageError(
                    f"{schedule} gives the temperature {value} in epoch {epoch + 1} of phase {self.name}, not above 0"
                )
        return Temperature(alpha, beta)

    def _check_joint(self) -> None:
        waiting: set[str] = set()
        for update in self.updates:
            if waiting & set(update.groups):
                raise UsageError(
                    f"in phase {self.name} {' and '.join(sorted(waiting & set(update.groups)))} would be updated twice "
                    "at one point; name a group in one of the joint updates only"
                )
            if "w" in waiting and update.gradient.perturbs_weights:
                raise UsageError(
                    f"in phase {self.name} an update by {update.gradient}, which perturbs w, cannot be joint with an "
                    "update of w before it; make the update of w the last"
                )
            waiting = waiting | set(update.groups) if update.joint else set()
        for update, following in pairwise(self.updates):
            if update.joint and following.once_at not in (None, update.once_at):
                raise UsageError(
                    f"in phase {self.name} an update waits for one that is made only once an epoch; "
                    "make the updates one after the other (joint off), or all of them in every step (once_at off)"
                )

    @property
    def weight_split(self) -> str:
        """The split w learns from."""
        return next(update.split for update in self.updates if "w" in update.groups)


@dataclass(frozen=True)
class Retained:
    """Cells pruned to what the stage before retains (`dots_core.search_space.derivation.retain`)."""

    rule: str
    topology: Topology


@dataclass(frozen=True)
class Stage:
    """Phases on one network, built afresh when the stage begins.

    Attributes
    ----------
    cells : CellSpec, Retained or Genotype
        The cell that is searched, what the stage before retains, or a derived cell.
    layers : int
        Number of cells.
    validation : str
        Where accuracy is measured after every epoch; one of `VALIDATION_SPLITS`. No decision
        depends on it.
    initial_scale : float
        Standard deviation of the initial α′ and β′.
    drop_path : float
        Probability p of dropping an edge: p·t/epochs in epoch t, counted from 0 (DARTS).
    """

    name: str
    cells: CellSpec | Retained | Genotype
    layers: int
    phases: tuple[Phase, ...]
    validation: str = "test"
    optimizers: Optimizers = field(default_factory=Optimizers)
    architecture_rate: float = 3e-4
    initial_scale: float = 1e-3
    auxiliary: bool = False
    head_norm: bool = False
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        if self.validation not in VALIDATION_SPLITS:
            known = ", ".join(VALIDATION_SPLITS)
            raise UsageError(f"unknown validation split '{self.validation}'; known: {known}")
        # A phase of no epochs does nothing; without it the last phase is the one that ends the stage.
        object.__setattr__(self, "phases", tuple(phase for phase in self.phases if phase.epochs))
        if not self.phases:
            raise UsageError(f"stage {self.name} needs at least one epoch")
        if not 0 <= self.drop_path < 1:
            raise UsageError(f"drop_path is {self.drop_path}; it must be at least 0 and below 1")
        if self.drop_path and any(len(phase.updates) > 1 for phase in self.phases):
            raise UsageError(
                f"stage {self.name} has drop_path {self.drop_path} and several updates a step; drop-path rises with "
                "the epochs of the images w learns from, so it is for trainings and one-level searches only"
            )
        topology = self.cells.topology if isinstance(self.cells, (CellSpec, Retained)) else Topology()
        regularised = any(update.regularisation for phase in self.phases for update in phase.updates)
        if regularised and (topology.side != "output" or not topology.kind.chooses):
            raise UsageError(
                f"stage {self.name} regularises β of a topology whose nodes always keep an input; leave the "
                "regularisation out, or search combinations on the output side"
            )

    @property
    def epochs(self) -> int:
        """How many epochs its phases have together."""
        return sum(phase.epochs for phase in self.phases)

    def network(
        self, plan: Plan, cells: Mapping[str, CellSpec], classes: int, shape: tuple[int, int, int]
    ) -> NetworkSpec:
        """Return the network of the stage, given its cells and the data's classes and image shape."""
        derived = isinstance(self.cells, Genotype)
        return NetworkSpec(
            cells["normal"],
            cells["reduce"],
            self.layers,
            plan.channels,
            classes,
            shape,
            stem=plan.stem,
            stem_multiplier=plan.stem_multiplier,
            affine=derived,
            pool_norm=not derived,
            auxiliary=self.auxiliary,
            head_norm=self.head_norm,
        )

    @property
    def retains(self) -> bool:
        """Whether the stage's cells depend on the stage before."""
        return isinstance(self.cells, Retained)

    def cells_by_type(
        self,
        before: Mapping[str, CellSpec] | None = None,
        architecture: Mapping[str, NDArray[np.floating]] | None = None,
        temperature: Temperature | None = None,
    ) -> dict[str, CellSpec]:
        """Return the stage's cells, pruned to what the stage before retains.

        Parameters
        ----------
        before : mapping of ``"normal"`` and ``"reduce"`` to CellSpec, optional
            The cells of the stage before; needed if the stage `retains`.
        architecture : mapping, optional
            Their α′, ``alpha.<cell type>``, shape (edges, operations); what is not given is equal throughout.
        temperature : Temperature, optional
            As in `dots_core.search_space.derivation.retain`.
        """
        if isinstance(self.cells, Genotype):
            return {kind: self.cells.cell(kind) for kind in CELL_TYPES}
        if isinstance(self.cells, CellSpec):
            return dict.fromkeys(CELL_TYPES, self.cells)
        assert before is not None, "Plan refuses a first stage that depends on another"
        known, rule, topology = architecture or {}, self.cells.rule, self.cells.topology
        found = {}
        for kind in CELL_TYPES:
            equal = np.zeros(before[kind].operation_groups.shape)
            found[kind] = retain(before[kind], known.get(f"alpha.{kind}", equal), rule, topology, temperature)
        return found

    def build(self, plan: Plan, spec: NetworkSpec, engine: Engine) -> Network:
        """Build the stage's network on an engine, with initial weights and architecture weights of the plan's seed.

        Parameters
        ----------
        spec : NetworkSpec
            What `network` gave.
        """
        computing(engine.name)
        return engine.build(
            Setup(spec, self.optimizers, plan.loss, plan.runtime),
            initial_weights(spec, plan.seed, self.name),
            initial_architecture(spec, plan.seed, self.name, self.initial_scale),
        )


@dataclass(frozen=True)
class GapChecks:
    """When the discretisation gap is measured (`dots_core.search.discretisation`); it costs one more evaluation.

    Only in stages that search a topology, and in the last: others do not derive a cell.

    Attributes
    ----------
    last : bool
        After the last epoch of the stage.
    every : int
        Also after every so many epochs of the run; 0 means never.
    """

    last: bool = True
    every: int = 0


@dataclass(frozen=True)
class Plan:
    """Everything a run does, on whatever data and engine.

    Attributes
    ----------
    learning_rate : Schedule
        Of w.
    rate_over : str
        ``"run"``: the schedule runs over the epochs of all stages together. ``"stage"``: over those
        of each stage, from its beginning.
    batch : int
        Images a step; the last, smaller batch of an epoch is left out.
    derive : bool
        Whether a genotype is derived at the end.
    split : float
        Share of half A when the training images are halved.
    checkpoint_every : int
        Steps between checkpoints inside an epoch; one is always written after an epoch.
    evaluate_every : int
        Epochs between evaluations; the last epoch of a stage is always evaluated.
    train_images, test_images : int
        How many images to use, the first of a seeded shuffle; 0 means all.
    train_share : float, optional
        The share of the training images to use, in place of a number.
    balanced : bool
        Whether the training images used, and each half or third of them, hold the same share of every
        class (`dots_core.data.balanced_parts`).
    """

    stages: tuple[Stage, ...]
    learning_rate: Schedule = field(default_factory=lambda: Cosine(0.025, 0.001))
    batch: int = 64
    channels: int = 16
    stem: str = "cifar"
    stem_multiplier: int = 3
    augmentation: Augmentation = field(default_factory=Augmentation)
    loss: Loss = field(default_factory=Loss)
    runtime: Runtime = field(default_factory=Runtime)
    seed: int = 0
    derive: bool = True
    split: float = 0.5
    checkpoint_every: int = 200
    evaluate_every: int = 1
    train_images: int = 0
    test_images: int = 0
    gap: GapChecks = field(default_factory=GapChecks)
    rate_over: str = "run"
    train_share: float | None = None
    balanced: bool = False

    def __post_init__(self) -> None:
        if self.rate_over not in ("run", "stage"):
            raise UsageError(f"a learning rate runs over the 'run' or over each 'stage', not over '{self.rate_over}'")
        if self.train_share is not None and (self.train_images or not 0 < self.train_share <= 1):
            raise UsageError(
                f"train_share is {self.train_share}, with train_images {self.train_images}; give a share above 0 and "
                "up to 1, or a number of images, not both"
            )
        if not self.stages or self.epochs < 1:
            raise UsageError("a plan needs at least one epoch")
        if self.batch < 2:
            raise UsageError(f"batch is {self.batch}; batch norm needs at least 2 images")
        if isinstance(self.stages[0].cells, Retained):
            raise UsageError("the first stage cannot retain operations: there is no stage before it")
        spans = [self.epochs] if self.rate_over == "run" else [stage.epochs for stage in self.stages]
        for epochs in spans:
            for epoch in range(epochs):
                rate = value_at(self.learning_rate, epoch, epochs)
                if rate < 0:
                    raise UsageError(
                        f"{self.learning_rate} gives the learning rate {rate} in epoch {epoch + 1}, below 0"
                    )

    @property
    def epochs(self) -> int:
        """How many epochs its stages have together."""
        return sum(stage.epochs for stage in self.stages)

    def weights_rate(self, stage: int, phase: int, epoch: int, run_epoch: int) -> float:
        """Return the learning rate of w in an epoch.

        Parameters
        ----------
        stage, phase : int
            The epoch's, counted from 0.
        epoch : int
            Within the phase, counted from 0.
        run_epoch : int
            How many epochs were run before it; after an early stop fewer than were planned.
        """
        if self.rate_over == "run":
            return value_at(self.learning_rate, run_epoch, self.epochs)
        now = self.stages[stage]
        before = sum(each.epochs for each in now.phases[:phase])
        return value_at(self.learning_rate, before + epoch, now.epochs)

    @property
    def digest(self) -> str:
        """Sha256 of all the plan says but the device; equal plans have equal digests.

        What is left at its default is not part of it, so a setting that a later release adds does
        not make earlier checkpoints another plan's.
        """
        anywhere = replace(self, runtime=replace(self.runtime, device=""))
        return hashlib.sha256(_described(anywhere).encode()).hexdigest()


def _described(value: object) -> str:
    """Return a value as text, fields of dataclasses that are at their defaults left out."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_described, value))})"
    if value is None or isinstance(value, (str, int, float)):
        return repr(value)
    if not is_dataclass(value):
        raise UsageError(
            f"a plan holds {quoted(repr(value))}, which no digest can describe; make {type(value).__name__} a frozen "
            "dataclass"
        )
    parts: dict[str, object] = {}
    for each in fields(value):
        default = each.default if each.default_factory is MISSING else each.default_factory()
        own = getattr(value, each.name)
        if isinstance(value, Update) and isinstance(own, Gradient):
            parts |= own.recorded()
        elif own != default:
            parts[each.name] = own
    return f"{type(value).__name__}({', '.join(f'{name}={_described(part)}' for name, part in parts.items())})"
