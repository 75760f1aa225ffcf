"""What is known of this engine without loading it."""

info = {
    "framework": "torch",
    "install": "pip install 'torch>=2.4'",
    "description": "PyTorch; operations of all edges out of a node run as one",
    "tried": "CPU; CUDA is written but was not tried on hardware",
    "precisions": ("float32", "float64", "tf32", "bfloat16", "float16"),
    "priority": 30,
}
