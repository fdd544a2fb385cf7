"""Changes and checks of a config before a run: overrides, data folder, number of epochs, and its numbers."""
