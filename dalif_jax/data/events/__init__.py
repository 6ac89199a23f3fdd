"""Recordings of event cameras: found, read, converted to frames once, augmented."""
