"""A run as it lives on a machine: its commands, checkpoints, log and page."""
