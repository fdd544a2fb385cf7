"""What a config says about a run: overrides, the data folder, the length, and checks of its numbers."""
