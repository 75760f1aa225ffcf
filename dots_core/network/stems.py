"""Stems: what brings images to the channels and the size of the first cell."""

from __future__ import annotations

from abc import ABC, abstractmethod

from dots_core.errors import UsageError, quoted
from dots_core.search_space.layers import Convolution, Layer, MaxPool2x2, Norm, Pool, ReLU, Size, output_size
from dots_core.search_space.registry import Registry

Sequences = tuple[tuple[Layer, ...], ...]


class Stem(ABC):
    """One stem. Engines know of none: they are handed its layers.

    Attributes
    ----------
    name : str
    about : str
        What it is and where it comes from.
    head_stride : int
        Of the pooling in the auxiliary head.
    head_norm : bool
        Whether the second convolution of the auxiliary head has a batch norm.
    """

    name: str
    about: str
    head_stride: int = 3
    head_norm: bool = True

    @abstractmethod
    def layers(self, colours: int, channels: int, multiplier: int) -> Sequences:
        """Return one sequence of layers, whose output both inputs of the first cell are, or two.

        Of two the first gives c_{k−2}, and the second, which reads it, c_{k−1} at half its size: the first cell is
        treated as following a reduction. Names of layers begin with ``stem``.

        Parameters
        ----------
        colours : int
            Channels of the images.
        channels, multiplier : int
            Initial channels C of the network, and what multiplies them in a stem of one sequence.
        """


STEMS: Registry[Stem] = Registry("stem", "dots.stems", Stem)
"""All stems; a package adds its own by an entry point of the group ``dots.stems``."""


class _Cifar(Stem):
    name = "cifar"
    about = "one 3×3 convolution to stem_multiplier·C channels (DARTS)"

    def layers(self, colours: int, channels: int, multiplier: int) -> Sequences:
        width = multiplier * channels
        return ((Convolution("stem.conv", colours, width, 3, padding=1), Norm("stem.norm", width, True)),)


class _ImageNet(Stem):
    name = "imagenet"
    about = "three 3×3 convolutions of stride 2; the first cell is treated as following a reduction (DARTS)"
    head_stride = 2
    # DARTS left it out by oversight and keeps it so for its published results; the released DOTS code follows.
    head_norm = False

    def layers(self, colours: int, channels: int, multiplier: int) -> Sequences:
        c = channels
        return (
            (
                Convolution("stem0.conv1", colours, c // 2, 3, 2, 1),
                Norm("stem0.norm1", c // 2, True),
                ReLU(),
                Convolution("stem0.conv2", c // 2, c, 3, 2, 1),
                Norm("stem0.norm2", c, True),
            ),
            (ReLU(), Convolution("stem1.conv", c, c, 3, 2, 1), Norm("stem1.norm", c, True)),
        )


def check_stem(stem: Stem, sequences: Sequences, colours: int, size: Size) -> None:
    """Raise `UsageError` unless a stem's layers fit the images, each other and a network's cells.

    Parameters
    ----------
    sequences : tuple of tuples of Layer
        What `Stem.layers` gave.
    colours : int
        Channels of the images.
    size : (int, int)
        Height and width of the images.
    """
    problem = _misfit(sequences, colours, size)
    if problem:
        raise UsageError(f"the stem '{stem.name}' {problem}; mend its package, or choose another stem")


def _misfit(sequences: Sequences, width: int, size: Size) -> str | None:
    if len(sequences) not in (1, 2):
        return f"has {len(sequences)} sequences of layers, not 1 or 2"
    names: set[str] = set()
    sizes: list[Size] = []
    for layers in sequences:
        if not any(isinstance(layer, Convolution) for layer in layers):
            return "has a sequence of layers without a convolution"
        for layer in layers:
            if not isinstance(layer, (Convolution, Norm, ReLU, Pool, MaxPool2x2)):
                return f"holds {quoted(repr(layer))}; take Convolution, Norm, ReLU, Pool or MaxPool2x2"
            if isinstance(layer, (Convolution, Norm)):
                reads = layer.inputs if isinstance(layer, Convolution) else layer.channels
                if reads != width:
                    return f"has a layer '{quoted(layer.name)}' of {reads} channels that is given {width}"
                if layer.name in names or not layer.name.startswith("stem"):
                    return f"calls a layer '{quoted(layer.name)}'; names begin with stem, and each is used once"
                names.add(layer.name)
            width = layer.outputs if isinstance(layer, Convolution) else width
            before, size = size, output_size(layer, size)
            if min(size) < 1:
                return f"leaves nothing of {before[0]}×{before[1]} pixels"
        sizes.append(size)
    half = tuple(-(-side // 2) for side in sizes[0])
    if len(sizes) == 2 and sizes[1] != half:
        return f"brings {sizes[0]} pixels to {sizes[1]} in its second sequence, not to {half}"
    return None


for _stem in (_Cifar(), _ImageNet()):
    STEMS.register(_stem)
