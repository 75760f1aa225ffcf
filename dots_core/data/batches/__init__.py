"""How images are augmented, and in what batches they arrive."""
