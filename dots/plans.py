"""From settings to plans: what each setting means."""

from __future__ import annotations

from dataclasses import replace

from dots.config import Config, OperationSection, RunConfig, SearchConfig, TemperatureSection, TrainConfig
from dots_core.data import Augmentation
from dots_core.early_stop import EarlyStop
from dots_core.engine import Loss, Optimizers, Runtime
from dots_core.errors import UsageError
from dots_core.genotype import Genotype
from dots_core.plan import GapChecks, Phase, Plan, Retained, Stage, Update
from dots_core.schedules import Constant, Cosine, Schedule, temperature_schedule
from dots_core.space import search_cell
from dots_core.topology import Topology


def plan_of(config: Config) -> Plan:
    """Return the plan that settings describe.

    Raises
    ------
    UsageError
        If settings contradict each other.
    """
    return _search_plan(config) if isinstance(config, SearchConfig) else _train_plan(config)


def _search_plan(config: SearchConfig) -> Plan:
    space, operation, topology = config.space, config.operation, config.topology
    for name, section in (("operation", operation), ("topology", topology)):
        if section.warmup > section.epochs:
            raise UsageError(f"{name}.warmup is {section.warmup}, more than {name}.epochs, {section.epochs}")
    cell = search_cell(space.nodes, space.operations, space.groups, edges=space.edges)
    stages = [
        Stage(
            "operation",
            cell,
            operation.layers,
            _operation_phases(operation),
            validation="half-b" if operation.level == "bi" else "test",
            optimizers=_optimizers(config, operation.betas),
            architecture_rate=config.architecture.learning_rate,
            initial_scale=config.architecture.initial_scale,
            head_norm=config.head_norm,
        )
    ]
    if topology.epochs:
        searched = Topology(topology.space, topology.edges_per_node, topology.scaled)
        stages.append(
            replace(
                stages[0],
                name="topology",
                cells=Retained(operation.retain, searched),
                layers=topology.layers,
                phases=_topology_phases(config),
                validation="test",
                optimizers=_optimizers(config, topology.betas),
            )
        )
    measured = GapChecks(config.diagnostics.discretisation_gap, config.diagnostics.every)
    return replace(_common(config, tuple(stages)), split=config.split, gap=measured)


def _operation_phases(section: OperationSection) -> tuple[Phase, ...]:
    bilevel = section.level == "bi"
    updates = (Update(("alpha",), "half-b"), Update(("w",), "half-a")) if bilevel else (Update(("w", "alpha"), "all"),)
    temperature = _temperature(section.temperature)
    stop = None
    if section.early_stop != "none":
        stop = EarlyStop(section.early_stop, section.early_stop_skips, section.early_stop_epochs)
    return (
        Phase("warm-up", section.warmup, (Update(("w",), "half-a" if bilevel else "all"),)),
        Phase("search", section.epochs - section.warmup, updates, alpha_temperature=temperature, early_stop=stop),
    )


def _topology_phases(config: SearchConfig) -> tuple[Phase, ...]:
    section = config.topology
    ratio = section.alpha_temperature_ratio
    updates: tuple[Update, ...]
    if section.level == "bi":
        updates = (
            Update(("alpha", "beta"), "half-b", section.shuffle),
            Update(("w",), "half-a", section.shuffle),
        )
    else:
        updates = (Update(("w", "alpha", "beta"), "all", section.shuffle),)
    searching = section.temperature
    return (
        Phase("warm-up", section.warmup, (Update(("w",), section.warmup_split),), alpha_temperature=Constant(ratio)),
        Phase(
            "search",
            section.epochs - section.warmup,
            updates,
            alpha_temperature=_temperature(
                TemperatureSection(
                    schedule=searching.schedule,
                    start=searching.start * ratio,
                    rate=searching.rate,
                    end=searching.end * ratio,
                )
            ),
            beta_temperature=_temperature(searching),
        ),
    )


def _train_plan(config: TrainConfig) -> Plan:
    if config.cell is None:
        raise UsageError("a training needs a cell: give --cell with a name or a genotype.json")
    stage = Stage(
        "training",
        Genotype.from_record(config.cell),
        config.layers,
        (Phase("training", config.epochs, (Update(("w",), "all"),)),),
        optimizers=_optimizers(config, (0.5, 0.999)),
        auxiliary=config.auxiliary,
        drop_path=config.drop_path,
    )
    return replace(_common(config, (stage,)), derive=False, loss=Loss(config.label_smoothing, config.auxiliary_weight))


def _common(config: RunConfig, stages: tuple[Stage, ...]) -> Plan:
    weights = config.weights
    return Plan(
        stages,
        learning_rate=Cosine(weights.learning_rate, weights.final_learning_rate),
        batch=config.batch,
        channels=config.channels,
        stem=config.stem,
        stem_multiplier=config.stem_multiplier,
        augmentation=Augmentation(**config.augmentation.model_dump()),
        runtime=Runtime(config.device or "cpu", config.precision, config.deterministic),
        seed=config.seed,
        checkpoint_every=config.checkpoint_every,
        evaluate_every=config.evaluate_every,
        train_images=config.train_images,
        test_images=config.test_images,
    )


def _optimizers(config: RunConfig, betas: tuple[float, float]) -> Optimizers:
    decay = config.architecture.weight_decay if isinstance(config, SearchConfig) else 0.0
    weights = config.weights
    return Optimizers(
        momentum=weights.momentum,
        weight_decay=weights.weight_decay,
        clip=weights.clip,
        betas=betas,
        architecture_weight_decay=decay,
    )


def _temperature(section: TemperatureSection) -> Schedule:
    return temperature_schedule(section.schedule, section.start, section.rate, section.end)
