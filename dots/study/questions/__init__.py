"""The questions that studies answer."""
