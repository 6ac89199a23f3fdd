"""Losses: functions of (logits over time, labels) that return one value per example."""

import jax
import jax.numpy as jnp


def time_averaged_cross_entropy(logits, labels, smoothing=0.0):
    """Cross-entropy of the time-averaged logits, the readout of the paper's lineage.

    Args:
      logits: [B, T, K], any float dtype; the mean and the softmax are at least float32.
      labels: int [B].
      smoothing: share of the target spread evenly over all K classes, 0 <= smoothing < 1.
    Returns:
      [B] nats, per example.
    """
    logits = time_average(logits)
    log_probabilities = jax.nn.log_softmax(logits)
    correct = jnp.take_along_axis(log_probabilities, labels[:, None], axis=-1)[:, 0]
    return -((1.0 - smoothing) * correct + smoothing * log_probabilities.mean(-1))


def correct(logits, labels):
    """bool [B]: whether the largest time-averaged logit of [B, T, K] is the label's."""
    return time_average(logits).argmax(-1) == labels


def time_average(logits):
    """[B, T, K] -> [B, K], in at least float32."""
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32)).mean(axis=1)
