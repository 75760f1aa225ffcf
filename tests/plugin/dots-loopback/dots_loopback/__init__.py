"""A dots engine whose every verb crosses a wall: the reference engine, run in a process of its own.

Only bytes pass between the two processes, JSON records and safetensors, as they would to
another machine or another language.
"""
