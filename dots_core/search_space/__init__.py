"""The search space: cells, their operations and topology, and the genotype that is derived."""
