"""The data sets: found, read, in what order their examples come, and how they are augmented."""
