"""From the command line to a runner, and measuring a checkpoint."""
