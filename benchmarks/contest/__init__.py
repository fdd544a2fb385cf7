"""Shared code of the benchmarks: contestants in separate processes, and measurements of time and memory."""
