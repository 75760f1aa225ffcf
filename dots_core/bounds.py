"""The largest numbers that are taken for meant: what lies beyond is refused before work begins.

They bound what is built before its size in memory is known, so each is far above what any paper or data
set of this line of work has, and low enough that a network's description is made in seconds.
"""

from __future__ import annotations

LAYERS = 200
"""Cells of a network: ten times those of the deepest published one (20)."""

CHANNELS = 4096
"""Initial channels: the published networks have up to 48."""

NODES = 64
"""Intermediate nodes of a derived cell: published cells have up to 8."""

SEARCHED_NODES = 12
"""Intermediate nodes of a searched cell, whose last node then has 8192 combinations of edges."""

CLASSES = 100_000
"""The largest of the usual sets, ImageNet-21k, has 21,841; labels beyond are no class numbers."""

SIDE = 4096
"""Pixels of an image's side; an image of this size has 16 million."""

SMALLEST_BATCH = 2
"""Images a step at least: batch norm has no variance of one value a channel."""

BATCH = 1 << 16
"""Images a step."""

EPOCHS = 100_000
"""Of a phase: published searches and trainings have up to 600."""

COUNT = (1 << 31) - 1
"""Any other number of things: random numbers are addressed by 32 bits."""

SEEDS = 10_000
"""Seeds a result of a study is averaged over: published ones are over up to 10."""

CHECKPOINT_BYTES = 16 << 30
"""A file of arrays: the state of a network of a thousand million weights."""
