"""What PyTorch's kernels do wrong, and the way around each: the only place that knows.

Each function stands for a call that must not be made. The sweep of ``tests/kernels`` runs every layer form
under malloc checking, so a fault that is not listed here shows there.

1. The gradient of a 1×1 convolution at stride 2 on a channels-last input of fewer than 8 channels
   writes past the end of its buffer: PyTorch 2.13.0 and 2.14.1 (oneDNN, ``brgconv_1x1:avx2``) on
   processors with AVX2 and without AVX-512 (AMD EPYC). Not at stride 1, so the pixels are taken first; of an
   operation's own convolutions too (`dots_core.search_space.layers.Convolution.of_every_second_pixel`).
2. The CPU gradient of batch norm (PyTorch 2.13.0) reads past the end of an expanded weight, whose
   memory is shorter than its shape says.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def pointwise_at_stride_2(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve every second pixel, (0, 0) the first: ``F.conv2d(x, weight, stride=2)`` without fault 1.

    Parameters
    ----------
    x : Tensor, shape (N, C, H, W)
    weight : Tensor, shape (O, C, 1, 1)

    Returns
    -------
    Tensor, shape (N, O, ⌈H/2⌉, ⌈W/2⌉)
    """
    return F.conv2d(x[:, :, ::2, ::2], weight)


def pointwise_at_stride_2_shifted(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve every second pixel, (1, 1) the first; beyond the border of an odd size stands 0.

    The result has the shape of `pointwise_at_stride_2`'s.
    """
    height, width = x.shape[-2:]
    return F.conv2d(F.pad(x[:, :, 1::2, 1::2], (0, width % 2, 0, height % 2)), weight)


def repeated_for_norm(edge_weight: Tensor, channels: int) -> Tensor:
    """Return a batch norm's weight that holds each edge's weight for so many channels, in memory of its own (fault 2).

    Parameters
    ----------
    edge_weight : Tensor, shape (width,)

    Returns
    -------
    Tensor, shape (width·channels,)
    """
    return edge_weight[:, None].expand(-1, channels).contiguous().view(-1)
