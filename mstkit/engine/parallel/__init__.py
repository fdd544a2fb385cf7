"""Several processes and their threads: ranks, sharded weights, the agreement of their data."""
