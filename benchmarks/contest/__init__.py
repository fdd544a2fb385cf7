"""What the benchmarks share: contestants in processes of their own that take turns, their memory, their clocks."""
