"""The PyTorch engine, CPU and CUDA: `dots_torch.engine.engine`."""
