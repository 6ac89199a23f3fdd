"""Looking at a network: its layers, its operations and energy; pictures of it and of a run."""
