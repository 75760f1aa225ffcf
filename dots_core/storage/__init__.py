"""What a run writes: files that are whole or not there, checkpoints, metrics; and reading what others wrote."""
