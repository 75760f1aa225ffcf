"""The settings of a search and of a training: what may be set, to what, and what is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from dots_core import bounds
from dots_core.engine.protocol import PRECISIONS
from dots_core.errors import QUOTED, UsageError, nearest, quoted
from dots_core.network.stems import STEMS
from dots_core.plan.early_stop import EARLY_STOPS
from dots_core.plan.levels import LEVELS, STEP_SETTINGS, StepSettings
from dots_core.plan.schedules import RATE_SCHEDULES, TEMPERATURE_SCHEDULES
from dots_core.search_space.derivation import RETENTIONS
from dots_core.search_space.mixing import SAMPLINGS
from dots_core.search_space.operations import DARTS, OPERATIONS
from dots_core.search_space.registry import Registry
from dots_core.search_space.topology import TOPOLOGY_SPACES

_EXPONENT = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+")
"""``3e-4``, which YAML 1.1 takes for text."""


def _number(value: Any) -> Any:
    """Refuse what pydantic would make a number of, though it is none: true, "8"."""
    if isinstance(value, str) and _EXPONENT.fullmatch(value):
        return float(value)
    if isinstance(value, (bool, np.bool_, str, bytes)):
        raise PydanticCustomError("number_type", "input should be a number")
    return value


Whole = Annotated[int, BeforeValidator(_number)]
Number = Annotated[float, BeforeValidator(_number)]
Order = Annotated[Literal[1, 2], BeforeValidator(_number)]
Truth = Annotated[bool, Strict()]
Positive = Annotated[Number, Field(gt=0)]
NonNegative = Annotated[Number, Field(ge=0)]
Share = Annotated[Number, Field(gt=0, lt=1)]
Rate = Annotated[Number, Field(gt=0, le=1)]
Count = Annotated[Whole, Field(ge=1, le=bounds.COUNT)]
CountOrZero = Annotated[Whole, Field(ge=0, le=bounds.COUNT)]
Epochs = Annotated[Whole, Field(ge=1, le=bounds.EPOCHS)]
EpochsOrZero = Annotated[Whole, Field(ge=0, le=bounds.EPOCHS)]
Layers = Annotated[Whole, Field(ge=1, le=bounds.LAYERS)]
Channels = Annotated[Whole, Field(ge=2, le=bounds.CHANNELS, multiple_of=2)]
Pixels = Annotated[Whole, Field(ge=0, le=bounds.SIDE)]
Batch = Annotated[Whole, Field(ge=bounds.SMALLEST_BATCH, le=bounds.BATCH)]
Seed = Annotated[Whole, Field(ge=0, lt=2**63)]
UnitInterval = Annotated[Number, Field(ge=0, le=1)]
ShareOrZero = Annotated[Number, Field(ge=0, lt=1)]


@dataclass(frozen=True)
class OneOf:
    """Accepts the names of a registry's objects, as they are when it is asked, and perhaps some more."""

    registry: Registry[Any]
    more: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.more, *self.registry.names)

    def __call__(self, name: str) -> str:
        if name not in self.more and name not in self.registry:
            *others, last = (f"'{each}'" for each in self.names)
            choices = f"{', '.join(others)} or {last}"
            raise PydanticCustomError("literal_error", f"input should be {choices}, or what an installed package adds")
        return name


@dataclass(frozen=True)
class Several:
    """Says that a field takes several of a registry's objects by name; `dots.config.rules` checks them."""

    registry: Registry[Any]


Operations = Annotated[str | tuple[str, ...], Several(OPERATIONS)]
Edges = Annotated[str, AfterValidator(OneOf(TOPOLOGY_SPACES))]
Side = Literal["input", "output"]
Level = Annotated[str, AfterValidator(OneOf(LEVELS))]
Sampling = Annotated[str, AfterValidator(OneOf(SAMPLINGS))]
Retain = Annotated[str, AfterValidator(OneOf(RETENTIONS))]
Stop = Annotated[str, AfterValidator(OneOf(EARLY_STOPS, ("none",)))]
Precision = Annotated[str, AfterValidator(OneOf(PRECISIONS))]
Stem = Annotated[str, AfterValidator(OneOf(STEMS))]
Temperature = Annotated[str, AfterValidator(OneOf(TEMPERATURE_SCHEDULES))]
LearningRate = Annotated[str, AfterValidator(OneOf(RATE_SCHEDULES))]


class Section(BaseModel):
    """A group of settings; unknown keys and non-finite numbers are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class AugmentationSection(Section):
    """How training images are varied."""

    flip: Truth = True
    crop: Pixels = 4
    cutout: Pixels = 0
    resized_crop: UnitInterval = 0.0
    jitter: UnitInterval = 0.0


class WeightsSection(Section):
    """SGD on the network's weights, and how its learning rate falls over the run, or anew in every stage."""

    schedule: LearningRate = "cosine"
    over: Literal["run", "stage"] = "run"
    warmup_epochs: EpochsOrZero = 0
    learning_rate: Positive = 0.025
    final_learning_rate: NonNegative = 0.001
    momentum: ShareOrZero = 0.9
    weight_decay: NonNegative = 3e-4
    clip: NonNegative = 5.0


class ArchitectureSection(Section):
    """Adam on α′ and β′."""

    learning_rate: Positive = 1e-4
    weight_decay: NonNegative = 1e-3
    initial_scale: NonNegative = 1e-3


class TemperatureSection(Section):
    """A temperature over the search phase of a stage; 1 in the warm-up."""

    schedule: Temperature = "constant"
    start: Positive = 1.0
    rate: Rate = 1.0
    end: NonNegative = 0.0


class SpaceSection(Section):
    """The cells that are searched; named sets of operations: `dots_core.search_space.operations.groupings`."""

    nodes: Annotated[Whole, Field(ge=1, le=bounds.SEARCHED_NODES)] = 4
    operations: Operations = DARTS
    groups: str | tuple[tuple[str, ...], ...] = "single"
    edges: tuple[tuple[Whole, Whole], ...] | None = None
    attention: str | dict[str, Number] = {}


class EdgesSection(Section):
    """The topology that is searched together with the operations (`dots_core.search_space.topology.Topology`)."""

    space: Edges = "none"
    side: Side = "input"
    edges_per_node: Count = 2
    scaled: Truth = True


class DiagnosticsSection(Section):
    """What is measured beside the search; it does not change what is found."""

    discretisation_gap: Truth = True
    every: CountOrZero = 0


class StageSection(Section):
    """What both stages of a search have in common: their length and depth, and what one step is.

    ``once_at`` is the share of an epoch after which architecture weights are updated, once an epoch;
    None is every step. The weights are those of the two losses of level ``mixed``. Betas are Adam's, and
    ``architecture_clip`` bounds the norm of the gradient it takes; 0 does not.
    """

    epochs: EpochsOrZero
    warmup: EpochsOrZero
    layers: Layers
    level: Level
    order: Order = 1
    hypergradient: Literal["finite-difference", "exact"] = "finite-difference"
    splits: Literal["halves", "thirds"] = "halves"
    joint: Truth = False
    training_weight: Positive = 1.0
    validation_weight: NonNegative = 1.0
    once_at: UnitInterval | None = None
    regularisation: NonNegative = 0.0
    betas: tuple[ShareOrZero, ShareOrZero] = (0.5, 0.999)
    architecture_clip: NonNegative = 0.0
    temperature: TemperatureSection

    @property
    def step(self) -> StepSettings:
        """What is set about a step."""
        return StepSettings(**{name: getattr(self, name) for name in STEP_SETTINGS if hasattr(self, name)})


class OperationSection(StageSection):
    """The operation search; an early stop ends it by a criterion of DARTS+, warm-up excepted."""

    epochs: Epochs = 30
    warmup: EpochsOrZero = 15
    layers: Layers = 8
    level: Level = "bi"
    temperature: TemperatureSection = TemperatureSection()
    beta_temperature: TemperatureSection = TemperatureSection()
    sampling: Sampling = "none"
    partial_channels: Count = 1
    edges: EdgesSection = EdgesSection()
    retain: Retain = "groups"
    early_stop: Stop = "none"
    early_stop_skips: Count = 2
    early_stop_epochs: Count = 10


class TopologySection(StageSection):
    """The topology search; 0 epochs leave it out, and the cell is derived from the operation search.

    ``architecture_learning_rate`` is Adam's in this stage; None is that of the operation search.
    ``warmup_split`` is what w warms up on at one level; otherwise it is the images w learns from.
    """

    epochs: EpochsOrZero = 40
    warmup: EpochsOrZero = 20
    layers: Layers = 20
    level: Level = "one"
    space: Edges = "k-edges"
    side: Side = "input"
    edges_per_node: Count = 2
    scaled: Truth = True
    temperature: TemperatureSection = TemperatureSection(schedule="exponential", start=10, rate=0.72)
    architecture_learning_rate: Positive | None = None
    alpha_temperature_ratio: Positive = 1e-3
    warmup_split: Literal["all", "half-a"] = "all"
    shuffle: Truth = True


class RunConfig(Section):
    """What a search and a training have in common.

    ``test_split``, ``test_share`` and ``test_seed`` say which images are for testing where the
    data leaves it open (`dots_core.data.load`).
    """

    backend: str | None = None
    device: str | None = None
    precision: Precision = "float32"
    deterministic: Truth = True
    seed: Seed = 0
    data: Annotated[str, Field(min_length=1)] | None = None
    image_size: Annotated[Whole, Field(ge=4, le=bounds.SIDE)] | None = None
    test_split: str | None = None
    test_share: Share | None = None
    test_seed: Seed = 0
    train_images: CountOrZero = 0
    train_share: Rate | None = None
    test_images: CountOrZero = 0
    batch: Batch = 64
    channels: Channels = 16
    stem: Stem = "cifar"
    stem_multiplier: Annotated[Whole, Field(ge=1, le=bounds.CHANNELS)] = 3
    augmentation: AugmentationSection = AugmentationSection()
    weights: WeightsSection = WeightsSection()
    checkpoint_every: Count = 200
    evaluate_every: Count = 1


class SearchConfig(RunConfig):
    """A search.

    ``balanced`` takes the same share of every class wherever training images are chosen or divided.
    """

    kind: Literal["search"] = "search"
    space: SpaceSection = SpaceSection()
    architecture: ArchitectureSection = ArchitectureSection()
    operation: OperationSection = OperationSection()
    topology: TopologySection = TopologySection()
    split: Share = 0.5
    balanced: Truth = False
    head_norm: Truth = False
    diagnostics: DiagnosticsSection = DiagnosticsSection()


class TrainConfig(RunConfig):
    """The training of a found cell."""

    kind: Literal["train"] = "train"
    cell: dict[str, Any] | None = None
    layers: Layers = 20
    channels: Channels = 36
    batch: Batch = 96
    epochs: Epochs = 600
    weights: WeightsSection = WeightsSection(final_learning_rate=0.0)
    augmentation: AugmentationSection = AugmentationSection(cutout=16)
    label_smoothing: ShareOrZero = 0.0
    drop_path: ShareOrZero = 0.2
    auxiliary: Truth = True
    auxiliary_weight: NonNegative = 0.4


Config = SearchConfig | TrainConfig
ConfigClass = type[SearchConfig] | type[TrainConfig]

CONFIGS: dict[str, ConfigClass] = {"search": SearchConfig, "train": TrainConfig}


_SHOULD = "input should be "
_SAID = {
    "model_type": f"{_SHOULD}a section of keys and values",
    "dict_type": f"{_SHOULD}keys and values",
    "tuple_type": f"{_SHOULD}a list",
    "string_type": f"{_SHOULD}a text",
}
"""What is said of a type in place of pydantic's words, which are Python's."""


def parse_config(model: ConfigClass, values: dict[str, Any], origin: str) -> Config:
    """Check settings and return them as a config.

    Parameters
    ----------
    origin : str
        Where the settings come from, for messages.

    Raises
    ------
    UsageError
        Naming the key, what is wrong with it and, for an unknown key, the nearest right one.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        if problems[0]["type"] == "extra_forbidden":
            key = ".".join(str(part) for part in problems[0]["loc"])
            raise UsageError(
                f"{quoted(origin)}: unknown key '{quoted(key)}'{nearest(key, known_keys(model))}"
            ) from None
        # Of the types that the value may be of, the one it comes nearest to is told; of equals, each.
        field = tuple(takewhile(lambda part: not _is_type(part), problems[0]["loc"]))
        problems = [each for each in problems if each["loc"][: len(field)] == field]
        problem = max(problems, key=lambda each: len(each["loc"]))
        key = _key(problem["loc"])
        said = (
            _SAID.get(each["type"], f"{each['msg'][0].lower()}{each['msg'][1:]}")
            for each in problems
            if len(each["loc"]) == len(problem["loc"]) and _key(each["loc"]) == key
        )
        what = quoted(" or ".join(dict.fromkeys(said)).replace(f" or {_SHOULD}", " or "))
        given = problem["input"]
        given = repr(given) if isinstance(given, str) and len(given) <= QUOTED else given
        raise UsageError(f"{quoted(origin)}: {quoted(key)}: {what}, not {quoted(given)}") from None


def _is_type(part: int | str) -> bool:
    """Whether a part of a place is the type that pydantic tried there, where a value may be of several."""
    return part == "str" or str(part).startswith(("function-", "tuple[", "dict["))


def _key(place: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in place if not _is_type(part))


def choices(field: FieldInfo) -> list[OneOf]:
    """Return the registries whose objects a field takes by name."""
    return [each.func for each in field.metadata if isinstance(each, AfterValidator) and isinstance(each.func, OneOf)]


def known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Return every key that may be set, dotted."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            keys += known_keys(section, f"{prefix}{name}.")
        else:
            keys.append(f"{prefix}{name}")
    return keys
