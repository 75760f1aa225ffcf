"""Carrying a plan out: steps, batches, evaluation, resuming, diagnostics."""
