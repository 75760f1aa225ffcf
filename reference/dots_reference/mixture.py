"""Operation weights α and edge weights γ of a cell type, and the way back to α′ and β′."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dots_core.engine.batch import Draw
from dots_core.search_space.cell import CellSpec
from dots_core.search_space.mixing import Temperature, group_softmax, group_softmax_gradient
from dots_reference.windows import Array


class Mixture:
    """α = softmax(α′ / T_α) in groups, and γ = A · softmax(β′ / T_β) (DOTS eq. 2 and 5-8).

    All cells of a type share them, so each cell adds its part to the gradients here, and
    `pull` then takes the sums back to α′ and β′.

    Parameters
    ----------
    kind : str
        The cell type, ``"normal"`` or ``"reduce"``.
    architecture : α′ and β′ by name
    dtype : dtype of all arrays
    draw : what was drawn for the cell type, or None

    Attributes
    ----------
    alpha : (edges, candidates)
        1 in a cell without mixed operations.
    gamma : (edges,)
        1 where no topology is searched.
    evaluated : bool, (edges, candidates)
        The operations that are computed: all, or those chosen by a hard sample, which weigh 1.
    alpha_gradient, gamma_gradient : likewise, 0 at first
    searched : bool
        Whether there is anything to add gradients for.
    """

    def __init__(
        self,
        kind: str,
        cell: CellSpec,
        architecture: Mapping[str, Array],
        temperature: Temperature,
        dtype: np.dtype,
        draw: Draw | None = None,
    ) -> None:
        self._alpha_name, self._beta_name = f"alpha.{kind}", f"beta.{kind}"
        self._cell, self._temperature = cell, temperature
        edges = len(cell.edges)
        self.alpha: Array = np.ones((edges, len(cell.candidates)), dtype)
        self.gamma: Array = np.ones(edges, dtype)
        self.evaluated = np.ones(self.alpha.shape, bool)
        if cell.mixed:
            noise = None if draw is None else draw.noise
            self._weights: Array = group_softmax(
                architecture[self._alpha_name], cell.operation_groups, temperature.alpha, noise
            )
            self.alpha = self._weights
            if draw is not None and draw.chosen is not None:
                # Straight-through: 1 on the way forward, the softmax weight on the way back.
                self.evaluated = draw.chosen
                self.alpha = draw.chosen.astype(dtype)
        if cell.matrix is not None and cell.combination_groups is not None:
            self._shares: Array = cell.matrix.shares.astype(dtype)
            self._choice = group_softmax(architecture[self._beta_name], cell.combination_groups, temperature.beta)
            self.gamma = self._shares @ self._choice
        self.alpha_gradient = np.zeros_like(self.alpha)
        self.gamma_gradient = np.zeros_like(self.gamma)
        self.searched = cell.mixed or cell.matrix is not None

    def pull(self) -> dict[str, Array]:
        """Return the gradients with respect to α′ and β′ by name, from those the cells have added up."""
        cell = self._cell
        gradients: dict[str, Array] = {}
        if cell.mixed:
            gradients[self._alpha_name] = group_softmax_gradient(
                self._weights, self.alpha_gradient, cell.operation_groups, self._temperature.alpha
            )
        if cell.combination_groups is not None:
            gradients[self._beta_name] = group_softmax_gradient(
                self._choice, self._shares.T @ self.gamma_gradient, cell.combination_groups, self._temperature.beta
            )
        return gradients
