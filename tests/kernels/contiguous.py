"""`dots_conformance.alone`'s process, with the torch engine's images in PyTorch's own layout, channels first."""

from dataclasses import replace

import torch
from dots_conformance import alone
from dots_torch import engine

in_engines_layout = engine.precision
engine.precision = lambda runtime: replace(in_engines_layout(runtime), memory_format=torch.contiguous_format)
alone.main()
