"""Which arrays a pass reads: all, but for what hard samples leave out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dots_core.engine.batch import Draw
from dots_core.engine.stacking import Stack, StackedConvolution, StackedLinear, StackedNetwork, StackedNorm, StackedPair


@dataclass(frozen=True)
class Reads:
    """Stack numbers, ascending.

    Attributes
    ----------
    weights, statistics : tuple of int
        In the network's two layouts (`dots_core.engine.stacking.Stacker`).
    """

    weights: tuple[int, ...]
    statistics: tuple[int, ...]


def everything(network: StackedNetwork) -> Reads:
    """Return the numbers of all stacks."""
    return Reads(tuple(range(len(network.weights.stacks))), tuple(range(len(network.statistics.stacks))))


def reads(network: StackedNetwork, draws: Mapping[str, Draw] | None) -> Reads:
    """Return the stacks that take part in a pass, the auxiliary head's always."""
    if draws is None or all(draw.chosen is None for draw in draws.values()):
        return everything(network)
    weights: list[int] = []
    statistics: list[int] = []
    for stack in _stacks(network, draws):
        for step in stack.steps:
            if isinstance(step, StackedConvolution):
                weights.append(step.weight)
            elif isinstance(step, StackedLinear):
                weights += [step.weight, step.bias]
            elif isinstance(step, StackedPair):
                weights += [step.first, step.second]
            elif isinstance(step, StackedNorm):
                statistics += [step.mean, step.variance]
                weights += [number for number in (step.weight, step.bias) if number is not None]
    return Reads(tuple(sorted(weights)), tuple(sorted(statistics)))


def _stacks(network: StackedNetwork, draws: Mapping[str, Draw]) -> Iterator[Stack]:
    yield from network.stems
    for cell in network.cells:
        draw = draws.get(cell.layout.kind)
        yield from cell.preprocess
        for source in cell.sources:
            for family in (*source.separate, *source.common):
                if family.evaluated(draw):
                    yield family.stack
    if network.auxiliary is not None:
        yield network.auxiliary[1]
    yield network.head
