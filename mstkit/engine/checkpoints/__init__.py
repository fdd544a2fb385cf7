"""What a run leaves in its work dir, and how another goes on with it."""
