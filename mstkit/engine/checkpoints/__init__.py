"""Writing checkpoints and run records into a work dir, and resuming from them."""
