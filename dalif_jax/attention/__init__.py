"""Attention modules: a file each, a line each in ATTENTION (table.py); piece.py says what they are.

A line is a Flax module whose call takes (current [B, T, H, W, C], train) and returns that shape. It
acts on the current between a norm and its neuron, or where its network says.
"""

from dalif_jax.attention.piece import Attention
from dalif_jax.attention.table import ATTENTION, add, misfit, own_options

__all__ = ["ATTENTION", "Attention", "add", "misfit", "own_options"]
