"""Conformance: how closely an engine agrees with the reference engine, measured, judged and reported."""
