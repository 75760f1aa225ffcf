"""What is known of this engine without loading it."""

info = {
    "framework": "jittor",
    "install": "pip install 'jittor>=1.3.11' 'numpy<2'",
    "description": "Jittor; operations of all edges out of a node run as one",
    "tried": "CPU; CUDA is written but was not tried on hardware",
    "precisions": ("float32", "float64"),
    "priority": 10,
}
