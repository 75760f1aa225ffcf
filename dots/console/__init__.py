"""What a person sees on a terminal: streams, progress, results."""
