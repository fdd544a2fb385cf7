"""Builds a runner from the command line, and evaluates a checkpoint."""
