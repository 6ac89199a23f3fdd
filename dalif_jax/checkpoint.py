"""Checkpoints: the one file that knows orbax. It knows pytrees of arrays, not what they mean."""

from pathlib import Path

import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

UNSCORED = float("-inf")


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read; the message names the step and the folder."""


def _score(metrics):
    return metrics["score"]


class Checkpoints:
    """The checkpoints of one run: the newest `keep`, and the best by score.

    Saving is asynchronous; leaving the context waits for it. A step is listed only when it was
    written whole. Of equal scores the later step counts as the best.

    Args:
      folder: where they live; created unless `create` is False.
      keep: how many of the newest stay, at least 1.
    Raises:
      CheckpointError: the folder is missing and `create` is False.
    """

    def __init__(self, folder, keep, create=True):
        self.folder = Path(folder).absolute()
        if not create and not self.folder.is_dir():
            raise CheckpointError(f"no checkpoints: {self.folder} does not exist")
        best = BestN(get_metric_fn=_score, n=1)
        self._manager = ocp.CheckpointManager(
            self.folder,
            options=ocp.CheckpointManagerOptions(
                create=create,
                best_fn=_score,
                preservation_policy=AnyPreservationPolicy([LatestN(keep), best]),
                enable_async_checkpointing=True,
            ),
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._manager.close()

    def save(self, step, state, score=None):
        """Start saving a pytree of arrays as `step`; the arrays may be donated afterwards.

        Args:
          score: higher is better; None keeps the step out of the choice of the best.
        Raises:
          CheckpointError: the step was not taken, for example because a later one exists.
        """
        # Always a score, for orbax complains where there is none.
        metrics = {"score": UNSCORED if score is None else float(score)}
        saved = self._manager.save(
            step, args=ocp.args.Composite(state=ocp.args.StandardSave(state)), metrics=metrics
        )
        if not saved:
            raise CheckpointError(
                f"step {step} was not saved into {self.folder}, which holds steps {self.steps()}"
            )

    def wait(self):
        """Return when every save has finished. Raises what a save raised."""
        self._manager.wait_until_finished()

    def steps(self):
        """Sorted list of the steps that can be restored."""
        return sorted(self._manager.all_steps())

    def newest(self):
        """The latest step, or None."""
        return self._manager.latest_step()

    def best(self):
        """The step of the highest score among those kept, or None where none has a score."""
        step = self._manager.best_step()
        return None if step is None or _score(self._manager.metrics(step)) == UNSCORED else step

    def restore(self, step, like):
        """Read the pytree saved as `step`.

        Args:
          like: the same structure of jax.ShapeDtypeStruct; their shardings say where arrays go.
        Raises:
          CheckpointError: the step is missing or damaged, or its structure differs from `like`.
        """
        try:
            restored = self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like))
            )
        # orbax raises bare Exception, ValueError, KeyError and JSON errors for damaged files.
        except Exception as error:
            raise CheckpointError(
                f"step {step} of {self.folder} cannot be restored: {error}"
            ) from error
        return restored["state"]
