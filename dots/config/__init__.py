"""Settings: what may be set, what goes together, and what plan it makes."""
