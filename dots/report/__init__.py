"""One self-contained HTML page a run: what was found, how the search went, and what is doubtful about it."""
