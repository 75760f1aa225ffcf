"""Gradients that were taken and not yet used."""

from __future__ import annotations

from collections.abc import Mapping

from dots_jittor.arrays import Var
from dots_jittor.primitives import Primitives
from dots_jittor.stack import Constants


class Accumulated:
    """Sums of gradients, by name; they stay on the device.

    Attributes
    ----------
    found : dict of str to Var
        Those for which anything was added since they were taken away.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], constants: Constants, ops: Primitives) -> None:
        self.found: dict[str, Var] = {}
        self._shapes, self._constants, self._ops = shapes, constants, ops

    def add(self, name: str, gradient: Var, factor: float) -> None:
        """Add ``factor`` times a gradient."""
        if name in self.found or factor != 1:
            gradient = self._ops.add_scaled(self.total(name), gradient, factor)
        self.found[name] = gradient

    def total(self, name: str) -> Var:
        """Return a sum, 0 where nothing was added."""
        found = self.found.get(name)
        return self._constants.zeros(self._shapes[name]) if found is None else found

    def take(self, name: str) -> Var:
        """Take a sum away."""
        total = self.total(name)
        self.found.pop(name, None)
        return total
