"""What is known of this engine without loading it."""

info = {
    "framework": "mindspore",
    "install": "pip install 'mindspore>=2.9' 'numpy<2'",
    "description": "MindSpore; operations of all edges out of a node run as one",
    "tried": "CPU; Ascend is written but was not tried on hardware",
    "precisions": ("float32", "hf32", "bfloat16", "float16"),
    "priority": 20,
    # Jittor loads its oneDNN for the whole process, and MindSpore, needing another version, then crashes in it.
    "not_beside": ("jittor",),
}
