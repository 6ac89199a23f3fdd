"""Reading checkpoints: which steps are there, which is best, and what they hold, bit for bit."""

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from dalif_jax.runs.seal import differences, digest, other_arrays
from dalif_jax.runs.step_folders import CheckpointError, Damaged

UNSCORED = float("-inf")


class SavedSteps:
    """The reading half of Checkpoints, which opens them and says what it is saving just now."""

    def steps(self):
        """Sorted list of the steps that are there; whether they are whole, reading them shows."""
        return sorted(self._manager.all_steps())

    def newest(self):
        """The latest step, or None."""
        return max(self.steps(), default=None)

    def best(self):
        """The first step of the highest score among those kept, or None where none has a score.

        Raises:
          Damaged: a record cannot be read, and this is not the run itself (`create` is False).
        """
        scores = {step: self._score(step) for step in self.steps()}
        best = max(scores, key=lambda step: (scores[step], -step), default=None)
        return None if best is None or scores[best] == UNSCORED else best

    def best_score(self):
        """The score of `best`; minus infinity where there is none."""
        return max(map(self._score, self.steps()), default=UNSCORED)

    def _score(self, step):
        if self._saving is not None and step == self._saving.step:
            return self._saving.score
        try:
            return self._folders.record(step)["score"]
        except Damaged:
            if not self.create:
                raise
            return UNSCORED  # it is set aside when the run is started again

    def restore(self, step, like):
        """Read the pytree saved as `step`, and check every bit of it.

        Args:
          like: the same structure of jax.ShapeDtypeStruct; their shardings say where arrays go.
        Returns:
          (state, extra).
        Raises:
          Damaged: the step is missing, or its files are not what was written.
          CheckpointError: it holds other arrays than `like`; names each with both sides.
        """
        record = self._folders.record(step, ours=False)
        # Another network is said before another run: with it no step of this folder can be read.
        if differing := other_arrays(record["digest"], like):
            more = f"\n  ... {len(differing)} in all" if differing[8:] else ""
            raise CheckpointError(
                f"step {step} of {self.folder} is of another network:\n"
                + "\n".join(differing[:8])
                + more
            )
        self._folders.record(step)
        try:
            state = self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like))
            )["state"]
        except Exception as error:  # orbax raises bare Exception, KeyError, JSON errors and more
            text = self._folders.said(error)
            raise Damaged(f"step {step} of {self.folder} cannot be read: {text}") from error
        if wrong := differences(digest(jax.device_get(state)), record["digest"]):
            raise Damaged(
                f"step {step} of {self.folder} is damaged: {wrong[0]} is not what was saved"
                + (f", nor are {len(wrong) - 1} other arrays" if wrong[1:] else "")
            )
        return state, record["extra"]

    def weights(self, step):
        """{"params", "batch_stats"} of a step as NumPy arrays, whatever network they are of; the
        averaged weights where there are any.

        Raises:
          Damaged: the step is missing, or its files are not what was written.
        """
        saved = self._folders.record(step, ours=False)["digest"]
        try:
            path, handler = (
                self._folders.plain() / str(step) / "state",
                ocp.PyTreeCheckpointHandler(),
            )
            to_host = jax.tree.map(
                lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(path).tree
            )
            tree = handler.restore(path, args=ocp.args.PyTreeRestore(restore_args=to_host))
        except Exception as error:
            text = self._folders.said(error)
            raise Damaged(f"step {step} of {self.folder} cannot be read: {text}") from error
        found = {name: tree[name] for name in ("params", "batch_stats", "ema") if tree.get(name)}
        for path, values in digest(found).items():
            # A dict here, a field of the state there.
            name, rest = path[2:].split("']", 1)
            if saved.get(f".{name}{rest}") != values:
                raise Damaged(f"step {step} of {self.folder} is damaged: {path} was not saved so")
        params = found.get("ema") or found["params"]
        return {"params": params, "batch_stats": found.get("batch_stats", {})}

    def restore_newest(self, like):
        """The newest step that is whole: (step, state, extra), or None in a new folder.

        A damaged step is set aside as `<step>.corrupt` with a loud warning, and the one before is
        tried. So is what lies where it was not saved.

        Raises:
          CheckpointError: steps are there but none is whole (names all that were tried, so that a
            run never starts again from scratch unasked), or one is of another network.
        """
        tried = []
        for step in reversed(self.steps()):
            try:
                found = step, *self.restore(step, like)
            except Damaged as error:
                tried.append(str(error))
                self._set_aside(step, error)
                continue
            if self.create:
                self._prune()  # what a killed process left to its next save
            return found
        if aside := self._folders.aside():
            raise CheckpointError(
                "no checkpoint of this run can be read, and it does not start again from scratch "
                f"by itself. Tried in {self.folder}:\n  "
                + "\n  ".join(tried or aside)
                + "\nUse another --workdir, or remove the folder to begin anew"
            )
        return None

    def _set_aside(self, step, error):
        together("damaged")
        if not jax.process_index():
            self._folders.set_aside(step, error)
        together("set aside")
        self._manager.reload()


def any_process(yes):
    """Whether it is so in any process."""
    if jax.process_count() == 1:
        return yes
    return bool(multihost_utils.process_allgather(np.int32(yes)).any())


def together(what):
    """Wait until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"checkpoints {what}")
