"""The reference engine: every forward and backward pass written out in plain NumPy.

It defines what the verbs of `dots_core.engine.protocol` mean. Other engines are held to its float64
results; it is written to be read, edge by edge, not to be fast. The engine itself is
`dots_reference.engine.engine`.
"""
