"""Metrics between a step and its line: they stay on the device until one is due."""

import math

import jax

from dalif_jax.runs.command import NonFinite
from dalif_jax.training import first_not_finite

SCALARS = ("loss", "accuracy", "grad_norm", "learning_rate")


class Metrics:
    """The metrics of the steps since the last line, and of those whose line is due.

    Reading waits for the device; what is due is read when the next step is already running.

    Args:
      log: RunLog, which gets a "train" record a line.
      progress: Progress, which words the line.
      steps: of an epoch.
      names: of all layers in the order they run.
      unread: what `left` gave to the save that a run continues from.
    """

    def __init__(self, log, progress, steps, names, unread=()):
        self._log, self._progress, self._steps, self._names = log, progress, steps, names
        self._unread, self._due = list(unread), None

    def add(self, metrics):
        """The metrics of one more step, see training.make_program."""
        self._unread.append(metrics)

    def due(self, step):
        """A line is due of the steps up to this one."""
        self._unread, self._due = [], (self._unread, step)

    def read(self, state):
        """Record what is due, if anything is, and print its line; `state` is for names alone.

        Raises:
          NonFinite: see _check.
        """
        if not self._due:
            return
        (unread, step), self._due = self._due, None
        values = jax.device_get(unread)
        self._check(values, step, state)
        newest = {key: float(values[-1][key]) for key in SCALARS}
        # The mean over the steps since the last record: one batch alone is noise.
        for key in ("loss", "accuracy"):
            newest[key] = sum(float(row[key]) for row in values) / len(values)
        line = self._progress.line(step, newest["loss"], newest["accuracy"],
                                   newest["learning_rate"])  # fmt: skip
        print(line)
        rate = self._progress.rate
        about = {"epoch": step / self._steps, **newest, "images_per_second": rate}
        self._log.write("train", step, about)

    def left(self, step, state):
        """Plain numbers of the steps since the last line, `step` the newest: for a save.

        Raises:
          NonFinite: see _check.
        """
        values = jax.device_get(self._unread)
        self._check(values, step, state)
        return [{key: float(row[key]) for key in SCALARS} for row in values]

    def _check(self, values, step, state):
        """Stop where the steps up to `step` hold a loss or gradient that is no number.

        Raises:
          NonFinite: names every such step, and where the first of them stopped being finite.
        """
        first = step - len(values) + 1
        bad = [
            first + i
            for i, row in enumerate(values)
            if not all(math.isfinite(row[key]) for key in ("loss", "grad_norm"))
        ]
        if not bad:
            return
        self._log.write("nonfinite", bad[0], {"steps": bad})
        where = first_not_finite(values[bad[0] - first]["finite"], state, self._names)
        raise NonFinite(
            f"loss or gradient not finite at step{'s' * (len(bad) > 1)} "
            f"{', '.join(map(str, bad))}, first in the {where or 'loss'}; the checkpoints of "
            "earlier epochs are intact. A smaller learning_rate or a warm-up is the usual cure"
        )
