"""Draws for sampled operations: made once, for every engine (Jang et al. 2017; Maddison et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from dots_core.engine.batch import Draw
from dots_core.errors import UsageError
from dots_core.network.spec import NetworkSpec
from dots_core.search_space.cell import CellSpec
from dots_core.search_space.operations.draws import drawn_by_operation


class Sampler:
    """Draws for the cells of a network whose operations are sampled (`dots_core.search_space.mixing`).

    What is drawn for an operation depends on nothing but the seed, the salt, the epoch, the step and the
    operation; the choice of hard samples, on α′ too.

    Parameters
    ----------
    salt : str
        Tells apart what draws separately: stages, phases, updates.
    """

    def __init__(self, spec: NetworkSpec, seed: int, salt: str) -> None:
        self._cells = {kind: spec.cell(kind) for kind in spec.kinds() if spec.cell(kind).drawn.draws}
        self._seed, self._salt = seed, salt

    @property
    def hard(self) -> bool:
        """Whether a draw depends on α′."""
        return any(cell.drawn.chooses for cell in self._cells.values())

    def draw(self, architecture: Mapping[str, NDArray[np.floating]], epoch: int, step: int) -> dict[str, Draw] | None:
        """Return the draws of one step; None where nothing is sampled.

        Parameters
        ----------
        architecture : mapping
            α′ by name, shape (edges, operations); may be empty unless `hard`.
        """
        draws = {}
        for kind, cell in self._cells.items():
            uniform = drawn_by_operation(
                lambda stream, shape: stream.uniform(shape, epoch, step),
                self._seed,
                f"gumbel/{self._salt}/{kind}",
                len(cell.edges),
                cell.candidates,
            )
            drawn = np.asarray(cell.drawn.noise(uniform), np.float64)
            if drawn.shape != uniform.shape or not np.isfinite(drawn).all():
                raise UsageError(
                    f"the sampling '{cell.sampling}' draws noise of shape {drawn.shape} that must be finite numbers of "
                    f"shape {uniform.shape}; mend its package, or choose another sampling"
                )
            noise = np.where(cell.operation_groups.mask, drawn, 0.0)
            draws[kind] = _draw(cell, architecture.get(f"alpha.{kind}"), noise.astype(np.float32))
        return draws or None

    def most_likely(self, architecture: Mapping[str, NDArray[np.floating]]) -> dict[str, Draw] | None:
        """Return the draws for evaluation: no noise, and of hard samples what is chosen without.

        ``architecture`` and its shapes are as in `draw`.
        """
        draws = {}
        for kind, cell in self._cells.items():
            noise = np.zeros(cell.operation_groups.shape, np.float32)
            draws[kind] = _draw(cell, architecture.get(f"alpha.{kind}"), noise)
        return draws or None


def _draw(cell: CellSpec, alpha: NDArray[np.floating] | None, noise: NDArray[np.float32]) -> Draw:
    if not cell.drawn.chooses:
        return Draw(noise)
    assert alpha is not None
    groups = cell.operation_groups
    chosen = np.asarray(cell.drawn.chosen(groups, np.asarray(alpha, np.float32), noise), bool)
    one_each = np.arange(len(groups.members))
    if chosen.shape != groups.shape or not np.array_equal(np.sort(groups.labels[chosen]), one_each):
        raise UsageError(
            f"the sampling '{cell.sampling}' does not choose one operation of each group of an edge; mend its package, "
            "or choose another sampling"
        )
    return Draw(noise, chosen)
