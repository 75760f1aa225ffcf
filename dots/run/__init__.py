"""One run: its directory, what it needs, carrying it out, going on with it."""
