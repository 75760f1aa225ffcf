"""The PyTorch engine, CPU and CUDA."""

from dots_torch.engine import TorchEngine

engine = TorchEngine()

__all__ = ["TorchEngine", "engine"]
