"""What is known of this engine without loading it."""

info = {
    "framework": "mindspore",
    "install": "pip install 'dots-nas[mindspore]'",
    "description": "MindSpore; operations of all edges out of a node run as one",
    "tried": "CPU; Ascend is written but was not tried on hardware",
    "priority": 20,
    # Jittor loads its oneDNN for the whole process, and MindSpore, needing another version, then crashes in it.
    "not_beside": ("jittor",),
}
