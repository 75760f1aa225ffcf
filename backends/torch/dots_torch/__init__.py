"""The PyTorch engine, CPU and CUDA: `dots_torch.engine.engine`."""

import os

# Errors only: what PyTorch's libraries log by themselves (NNPACK on processors it does not know) passes Python by.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
