"""Trained networks for others: NIR graphs and model cards."""
