"""Which settings of a search do not go together: each refusal with the keys, the reason and the remedy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from dots.config.presets import setting_text
from dots.config.schema import SearchConfig, SpaceSection, StageSection, TemperatureSection, WeightsSection
from dots_core.errors import UsageError
from dots_core.plan.early_stop import EARLY_STOPS
from dots_core.plan.levels import LEVELS, STEP_SETTINGS
from dots_core.search_space.derivation import RETENTIONS
from dots_core.search_space.operations.groupings import attention_constants, grouping, operation_set
from dots_core.search_space.registry import Registry
from dots_core.search_space.topology import TOPOLOGY_SPACES


def check_rules(config: SearchConfig) -> None:
    """Refuse settings that contradict each other, and of those without effect the ones that mislead.

    What depends on the images or the engine is checked where those are known.

    Raises
    ------
    UsageError
        Naming the keys, the reason and the remedy.
    """
    operation, topology = config.operation, config.topology
    candidates = _candidates(config.space)
    _check_edges(config.space)
    _check_operation_search(config, candidates)
    _check_stage("operation", operation, operation.edges.space, operation.edges.side, "operation.edges")
    if topology.epochs:
        if topology.space == "none":
            raise UsageError(
                "topology.space is none, which leaves a topology search nothing to search; choose a space, for "
                "example topology.space=k-edges, or leave the stage out by topology.epochs=0"
            )
        _check_candidates("operation.retain", operation.retain, RETENTIONS, candidates)
        _check_stage("topology", topology, topology.space, topology.side, "topology")
    check_rate(config.weights, [stage.epochs for stage in (operation, topology) if stage.epochs])


def _candidates(space: SpaceSection) -> tuple[str, ...]:
    """The operations an edge is searched among; groups may leave some out."""
    try:
        operations = operation_set(space.operations)
    except UsageError as error:
        raise UsageError(f"space.operations: {error}") from None
    try:
        groups = grouping(space.groups, operations)
    except UsageError as error:
        raise UsageError(f"space.groups: {error}") from None
    try:
        attention_constants(space.attention, operations)
    except UsageError as error:
        raise UsageError(f"space.attention, space.operations: {error}") from None
    return tuple(operation for group in groups for operation in group)


def _check_edges(space: SpaceSection) -> None:
    if space.edges is None:
        return
    for source, target in space.edges:
        if not (0 <= source < target and 2 <= target < space.nodes + 2):
            raise UsageError(
                f"space.edges: [{source}, {target}] leads into no later intermediate node; of a cell with "
                f"space.nodes={space.nodes} these are 2 to {space.nodes + 1}"
            )
    edge, count = Counter(space.edges).most_common(1)[0] if space.edges else ((0, 0), 0)
    if count > 1:
        raise UsageError(f"space.edges names the edge [{edge[0]}, {edge[1]}] {count} times; name it once")
    targets = {target for _, target in space.edges}
    bare = [node for node in range(2, space.nodes + 2) if node not in targets]
    if bare:
        raise UsageError(
            f"space.edges leads no edge into node {bare[0]}; add one, for example [0, {bare[0]}], or lower space.nodes"
        )


def _check_operation_search(config: SearchConfig, candidates: tuple[str, ...]) -> None:
    section = config.operation
    if config.channels % (2 * section.partial_channels):
        raise UsageError(
            f"channels is {config.channels}; with operation.partial_channels={section.partial_channels} it must be a "
            f"multiple of {2 * section.partial_channels}, because the part that passes is halved in reduction cells; "
            "change one of them"
        )
    if not TOPOLOGY_SPACES[section.edges.space].searched and section.beta_temperature != TemperatureSection():
        raise UsageError(
            f"operation.beta_temperature is set, but operation.edges.space is {section.edges.space}, which has no "
            "beta; choose a space that is searched, or leave the temperature out"
        )
    if section.early_stop == "none":
        return
    if section.warmup == section.epochs:
        raise UsageError(
            "operation.early_stop ends the search, but operation.warmup takes all of operation.epochs; lower the "
            "warm-up, or set operation.early_stop=none"
        )
    _check_candidates("operation.early_stop", section.early_stop, EARLY_STOPS, candidates, "none")


def _check_candidates(key: str, name: str, registry: Registry[Any], candidates: tuple[str, ...], *more: str) -> None:
    """Check that a rule finds what it needs among the operations; ``more`` may be set in its place."""
    refusal = registry[name].refusal(candidates)
    if refusal is not None:
        others = [each.name for each in registry if each.refusal(candidates) is None]
        raise UsageError(f"{key}={name} {refusal}, or set {key}={' or '.join([*others, *more])}")


def _check_stage(name: str, section: StageSection, space: str, side: str, edges: str) -> None:
    """Check what both stages have; ``edges`` is the section that the topology's keys are in."""
    if section.warmup > section.epochs:
        raise UsageError(f"{name}.warmup is {section.warmup}, more than {name}.epochs, {section.epochs}")
    searched = TOPOLOGY_SPACES[space].searched
    two_sided = " or ".join(each.name for each in TOPOLOGY_SPACES if "output" in each.sides)
    if side not in TOPOLOGY_SPACES[space].sides:
        raise UsageError(
            f"{edges}.side is {side}, but in {edges}.space={space} no combinations compete; set "
            f"{edges}.space={two_sided}, or {edges}.side=input"
        )
    _check_level(name, section)
    if section.splits == "thirds" and not searched:
        raise UsageError(
            f"{name}.splits is thirds, one of them for beta, but {edges}.space={space} has no beta; set "
            f"{name}.splits=halves, or choose a space that is searched"
        )
    if section.regularisation and (side != "output" or not searched):
        raise UsageError(
            f"{name}.regularisation keeps nodes from being left without input, which only the output side does; set "
            f"{edges}.side=output with {edges}.space={two_sided}, or {name}.regularisation=0"
        )


def _check_level(name: str, section: StageSection) -> None:
    """Check that what is set about steps belongs to the stage's level."""
    level, step = LEVELS[section.level], section.step
    for key, setting in STEP_SETTINGS.items():
        value = getattr(step, key)
        if key in level.settings or value == setting.default:
            continue
        others = " or ".join(each.name for each in LEVELS if key in each.settings)
        why = f", which {level.without[key]}" if key in level.without else ""
        what = setting.metadata["what"]
        raise UsageError(
            f"{name}.{key} is {setting_text(value)}, {what}, but {name}.level is {level.name}{why}; set "
            f"{name}.level={others}, or {name}.{key}={setting_text(setting.default)}"
        )
    refusal = level.refusal(step, name)
    if refusal is not None:
        raise UsageError(refusal)


def check_rate(weights: WeightsSection, stages: Sequence[int]) -> None:
    """Refuse a warm-up of the learning rate that is longer than what it is the beginning of.

    Parameters
    ----------
    stages : sequence of int
        Epochs of each stage.

    Raises
    ------
    UsageError
    """
    what, length = ("the run", sum(stages)) if weights.over == "run" else ("a stage", min(stages))
    if weights.warmup_epochs > length:
        raise UsageError(f"weights.warmup_epochs is {weights.warmup_epochs}, but {what} has {length} epochs; lower it")
