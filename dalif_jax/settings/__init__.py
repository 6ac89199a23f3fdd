"""The settings of a run: every key once, what it may be, the recipes that set them."""
