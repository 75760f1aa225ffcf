"""When an engine's process dies: which of its layers was it?"""
