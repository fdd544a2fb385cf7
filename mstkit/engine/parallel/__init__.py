"""Training with several processes: ranks, sharded weights, and checks that all processes have the same data."""
