"""What is known of this engine without loading it."""

info = {
    "description": "plain NumPy, per edge, float64 and float32: slow and readable, the oracle",
    "tried": "CPU",
    "precisions": ("float32", "float64"),
    "priority": 0,
    "search_preset": "smoke-reference",
    "survives_fork": True,  # NumPy's threads are started anew
}
