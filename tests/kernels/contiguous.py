"""The process of `dots_core.engine.crashes.alone`, with the torch engine's images channels first."""

from dataclasses import replace

import torch
from dots_torch import engine

from dots_core.engine.crashes import alone

in_engines_layout = engine.device_context
engine.device_context = lambda runtime: replace(in_engines_layout(runtime), memory_format=torch.contiguous_format)
alone.main()
