"""`dots_core.engine.crashes.alone`'s process, with the call that `dots_torch.kernel_faults` routes around put back."""

import os

# Where the processor can do more, its kernels are others.
os.environ.update({"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"})

import torch.nn.functional as F
from dots_torch import stack

from dots_core.engine.crashes import alone

stack.pointwise_at_stride_2 = lambda x, weight: F.conv2d(x, weight, stride=2)
alone.main()
