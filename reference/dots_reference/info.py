"""What is known of this engine without loading it."""

info = {
    "description": "plain NumPy, per edge, and as if in lower precisions: slow and readable, the oracle",
    "tried": "CPU",
    "precisions": ("float32", "float64", "tf32", "hf32", "bfloat16", "float16"),
    "priority": 0,
    "search_preset": "smoke-reference",
    "survives_fork": True,  # NumPy's threads are started anew
}
