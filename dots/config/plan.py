"""From settings to plans: what each setting means."""

from __future__ import annotations

from dataclasses import replace

from dots.config.rules import check_rate, check_rules
from dots.config.schema import (
    AugmentationSection,
    Config,
    OperationSection,
    RunConfig,
    SearchConfig,
    StageSection,
    TemperatureSection,
    TrainConfig,
)
from dots_core.data import Augmentation
from dots_core.engine.protocol import Loss, Optimizers, Runtime
from dots_core.errors import UsageError
from dots_core.plan.early_stop import EarlyStop
from dots_core.plan.levels import LEVELS
from dots_core.plan.plan import GapChecks, Phase, Plan, Retained, Stage, Update
from dots_core.plan.schedules import Constant, Schedule, rate_schedule, temperature_schedule
from dots_core.search_space.cell import search_cell
from dots_core.search_space.genotype import Genotype
from dots_core.search_space.operations.groupings import attention_constants, operation_set
from dots_core.search_space.topology import TOPOLOGY_SPACES, Topology


def plan_of(config: Config) -> Plan:
    """Return the plan that settings describe.

    Raises
    ------
    UsageError
        If settings contradict each other.
    """
    return _search_plan(config) if isinstance(config, SearchConfig) else _train_plan(config)


def _search_plan(config: SearchConfig) -> Plan:
    check_rules(config)
    space, operation, topology = config.space, config.operation, config.topology
    operations = operation_set(space.operations)
    edges = operation.edges
    cell = search_cell(
        space.nodes,
        operations,
        space.groups,
        Topology(edges.space, edges.edges_per_node, edges.scaled, edges.side),
        space.edges,
        operation.sampling,
        operation.partial_channels,
        attention_constants(space.attention, operations),
    )
    stages = [
        Stage(
            "operation",
            cell,
            operation.layers,
            _operation_phases(operation),
            validation=LEVELS[operation.level].validation(operation.step),
            optimizers=_optimizers(config, operation),
            architecture_rate=config.architecture.learning_rate,
            initial_scale=config.architecture.initial_scale,
            head_norm=config.head_norm,
        )
    ]
    if topology.epochs:
        searched = Topology(topology.space, topology.edges_per_node, topology.scaled, topology.side)
        stages.append(
            replace(
                stages[0],
                name="topology",
                cells=Retained(operation.retain, searched),
                layers=topology.layers,
                phases=_topology_phases(config),
                validation="test",
                optimizers=_optimizers(config, topology),
                architecture_rate=topology.architecture_learning_rate or config.architecture.learning_rate,
            )
        )
    measured = GapChecks(config.diagnostics.discretisation_gap, config.diagnostics.every)
    return replace(_common(config, tuple(stages)), split=config.split, balanced=config.balanced, gap=measured)


def _operation_phases(section: OperationSection) -> tuple[Phase, ...]:
    stop = None
    if section.early_stop != "none":
        stop = EarlyStop(section.early_stop, section.early_stop_skips, section.early_stop_epochs)
    return (
        Phase("warm-up", section.warmup, (Update(("w",), LEVELS[section.level].weights_split(section.step)),)),
        Phase(
            "search",
            section.epochs - section.warmup,
            _updates(section, section.edges.space),
            alpha_temperature=_temperature("operation.temperature", section.temperature),
            beta_temperature=_temperature("operation.beta_temperature", section.beta_temperature),
            early_stop=stop,
        ),
    )


def _topology_phases(config: SearchConfig) -> tuple[Phase, ...]:
    section = config.topology
    ratio = section.alpha_temperature_ratio
    searching = _temperature("topology.temperature", section.temperature)
    # Where w learns from a part of the images, it must not learn beforehand from what α and β learn from.
    split = LEVELS[section.level].weights_split(section.step)
    warmup = section.warmup_split if split == "all" else split
    return (
        Phase("warm-up", section.warmup, (Update(("w",), warmup),), alpha_temperature=Constant(ratio)),
        Phase(
            "search",
            section.epochs - section.warmup,
            _updates(section, section.space),
            alpha_temperature=searching.scaled(ratio),
            beta_temperature=searching,
        ),
    )


def _updates(section: StageSection, space: str) -> tuple[Update, ...]:
    searched = ("alpha", "beta") if TOPOLOGY_SPACES[space].searched else ("alpha",)
    return LEVELS[section.level].updates(section.step, searched)


def _train_plan(config: TrainConfig) -> Plan:
    if config.cell is None:
        raise UsageError(
            "a training needs a cell: give a search's run directory, a genotype's file or text, or a published name, "
            "as the argument or by --cell"
        )
    check_rate(config.weights, [config.epochs])
    stage = Stage(
        "training",
        Genotype.from_record(config.cell),
        config.layers,
        (Phase("training", config.epochs, (Update(("w",), "all"),)),),
        optimizers=_optimizers(config),
        auxiliary=config.auxiliary,
        drop_path=config.drop_path,
    )
    return replace(_common(config, (stage,)), derive=False, loss=Loss(config.label_smoothing, config.auxiliary_weight))


def _common(config: RunConfig, stages: tuple[Stage, ...]) -> Plan:
    weights = config.weights
    if config.train_images and config.train_share is not None:
        raise UsageError(
            f"train_images is {config.train_images} and train_share {config.train_share}; set one of them, "
            "train_images=0 or train_share=null"
        )
    return Plan(
        stages,
        learning_rate=rate_schedule(
            weights.schedule, weights.learning_rate, weights.final_learning_rate, weights.warmup_epochs
        ),
        batch=config.batch,
        channels=config.channels,
        stem=config.stem,
        stem_multiplier=config.stem_multiplier,
        augmentation=_augmentation(config.augmentation),
        runtime=Runtime(config.device or "cpu", config.precision, config.deterministic),
        seed=config.seed,
        checkpoint_every=config.checkpoint_every,
        evaluate_every=config.evaluate_every,
        train_images=config.train_images,
        test_images=config.test_images,
        rate_over=weights.over,
        train_share=config.train_share,
    )


def _augmentation(section: AugmentationSection) -> Augmentation:
    return Augmentation(**section.model_dump(exclude_defaults=True))


def _optimizers(config: RunConfig, stage: StageSection | None = None) -> Optimizers:
    weights = config.weights
    plain = Optimizers(
        momentum=weights.momentum, weight_decay=weights.weight_decay, clip=weights.clip, architecture_weight_decay=0.0
    )
    if stage is None or not isinstance(config, SearchConfig):
        return plain
    return replace(
        plain,
        betas=stage.betas,
        architecture_weight_decay=config.architecture.weight_decay,
        architecture_clip=stage.architecture_clip,
    )


def _temperature(key: str, section: TemperatureSection) -> Schedule:
    try:
        return temperature_schedule(section.schedule, section.start, section.rate, section.end)
    except UsageError as error:
        raise UsageError(f"{key}: {error}") from None
