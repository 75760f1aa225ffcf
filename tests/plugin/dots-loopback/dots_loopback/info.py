"""What is known of this engine without loading it."""

info = {
    "framework": "",  # the module whose presence makes the engine available; NumPy always is
    "install": "pip install dots-loopback",  # what to tell a user who lacks the framework
    "description": "the reference engine in a process of its own",
    "tried": "CPU",  # on which devices it was really run
    "priority": -1,  # the available engine of the highest priority is the default
    "search_preset": "smoke-reference",  # the preset of `dots search` when a user names none
}
