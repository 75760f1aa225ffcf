"""What a run does, as a value: stages, phases, updates, schedules."""
