"""What an operation is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from dots_core.search_space.layers import Convolution, Layer, ShiftedPair


class Operation(ABC):
    """One candidate operation of an edge. All that depends on which it is stands here.

    Attributes
    ----------
    name : str
        Lower case letters, digits and underscores: a part of weights' names, and what settings and genotypes say.
    about : str
        What it is and where it comes from, for tables.
    family : str
        What it is one of: ``"pool"``, ``"skip"``, ``"separable"``, ``"dilated"``, or another word. Pictures and
        some groupings go by it.
    spellings : tuple of str
        Its names in other libraries, where their code shows that they are the same.
    """

    name: str
    about: str
    family: str
    spellings: tuple[str, ...] = ()

    @abstractmethod
    def layers(self, name: str, channels: int, stride: int, affine: bool, pool_norm: bool) -> tuple[Layer, ...]:
        """Return the layers of the operation on one edge, of the same kinds and sizes on every edge.

        Parameters
        ----------
        name : str
            Prefix of the weights' names, which go on with a full stop.
        channels : int
            Channels in and out.
        stride : int
            1 or 2; H×W becomes ⌈H/stride⌉ × ⌈W/stride⌉.
        affine : bool
            Whether batch norms have weight and bias.
        pool_norm : bool
            Whether a pool is followed by a batch norm without affine parameters, as in the supernet.

        Returns
        -------
        tuple of Layer
            Empty for the identity.
        """

    @property
    def learnable(self) -> bool:
        """Whether it has weights where it leaves the size of the image alone."""
        return any(isinstance(layer, (Convolution, ShiftedPair)) for layer in self.layers("", 2, 1, False, False))
