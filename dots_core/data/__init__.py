"""Images: where they come from, how they are augmented, and in what batches they arrive."""

from dots_core.data.batches.augment import Augmentation, normalise
from dots_core.data.batches.loader import Loader, balanced_parts, evaluation_batches, random_parts
from dots_core.data.images import ImageData, Split
from dots_core.data.sources.arrays import from_arrays
from dots_core.data.sources.load import load

__all__ = [
    "Augmentation",
    "ImageData",
    "Loader",
    "Split",
    "balanced_parts",
    "evaluation_batches",
    "from_arrays",
    "load",
    "normalise",
    "random_parts",
]
