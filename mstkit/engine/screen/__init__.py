"""What a run shows: a summary at the start, a progress line, results, warnings; everything goes to the log file."""
