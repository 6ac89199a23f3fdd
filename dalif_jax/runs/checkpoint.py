"""Checkpoints, written: with saved_steps.py what knows orbax. They know pytrees of arrays, not what
those mean.

orbax writes each step whole or not at all, but restores a flipped bit without a word, casts to
another dtype silently, takes a folder's name for a checkpoint, and calls a save done that no one
can read. So each step holds a sealed record (seal.py), compared when it is read; each save is read
back before an older step is let go; and a step that fails is set aside, never forgotten.
"""

import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import LatestN

from dalif_jax import __version__
from dalif_jax.runs.runlog import warn
from dalif_jax.runs.saved_steps import UNSCORED, SavedSteps, any_process, together
from dalif_jax.runs.seal import differences, digest, sealed
from dalif_jax.runs.step_folders import CheckpointError, Damaged, StepFolders


class NotFinite(CheckpointError):
    """The state to be saved holds values that are no numbers."""


class Saving(NamedTuple):
    """A save that was not waited for."""

    step: int
    score: float
    check: Any  # a Future: raises what the save or reading it back failed with; None elsewhere


class Checkpoints(SavedSteps):
    """The checkpoints of one run: the newest `keep`, and the best by score.

    Saving is asynchronous, and reading back what was saved; leaving the context waits for it. A
    step is listed only when it was written whole, and until it was read back one more stays. Of
    equal scores the first step counts as the best. A save that fails, on a full disk for example,
    is reported loudly; earlier steps stay, and the next save tries again.

    Args:
      folder: where they live; created unless `create` is False.
      keep: how many of the newest stay, at least 1.
      run: the settings they belong to, by name, as plain values (JSON): sealed into each.
    Raises:
      CheckpointError: the folder is missing and `create` is False, or cannot be made, or all in it
        was saved elsewhere.
    """

    def __init__(self, folder, keep, create=True, run=None):
        self.folder, self.keep, self.create = Path(folder).absolute(), keep, create
        self._folders = StepFolders(folder, run)
        if not create and not self.folder.is_dir():
            raise CheckpointError(f"no checkpoints: {self.folder} does not exist")
        self.run = run
        self._saving = None  # the save that has not been waited for
        self._failed = None  # what the last save failed with
        self._reader = ThreadPoolExecutor(1)
        if create:
            self._folders.make()
        failed = None
        if create and not jax.process_index():
            self._folders.clear_leftovers()
            try:
                self._folders.sort_out()
            except CheckpointError as error:
                failed = error
        if any_process(failed is not None):
            raise failed or CheckpointError("the first process cannot open the checkpoints")
        self._open()

    def _open(self):
        try:
            self._manager = ocp.CheckpointManager(
                self._folders.plain(),
                options=ocp.CheckpointManagerOptions(
                    create=self.create,
                    preservation_policy=LatestN(None),  # all: _prune lets steps go
                    enable_async_checkpointing=True,
                ),
            )
        except OSError as error:
            raise CheckpointError(f"{self.folder} cannot hold checkpoints: {error}") from error

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._settle()
        self._manager.close()
        self._reader.shutdown()
        self._folders.close()

    # ---- Writing.

    def save(self, step, state, score=None, extra=None):
        """Start saving a pytree of arrays as `step`; the arrays may be donated afterwards.

        Args:
          score: higher is better; None keeps the step out of the choice of the best.
          extra: plain values (JSON) kept with it.
        Returns:
          whether the save has started; if not, why was printed, and it counts as failed.
        Raises:
          NotFinite: an array holds a value that is no number; nothing is saved.
          CheckpointError: this or a later step exists already.
        """
        self._settle()
        steps = self.steps()
        if steps and step <= steps[-1]:
            raise CheckpointError(
                f"step {step} was not saved into {self.folder}, which holds steps {steps}"
            )
        host = jax.device_get(state)
        for path, leaf in jax.tree_util.tree_leaves_with_path(host):
            if bad := leaf.size - np.count_nonzero(np.isfinite(leaf)):
                name = jax.tree_util.keystr(path)
                raise NotFinite(f"step {step}: {bad} of {leaf.size} values of {name}")
        score = UNSCORED if score is None else float(score)
        record = sealed({
            "step": step, "run": self.run, "version": __version__, "digest": digest(host),
            "score": score, "extra": extra,
        })  # fmt: skip
        try:
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(record)
                ),
            )
        except Exception as error:  # the file systems' and tensorstore's errors are of many kinds
            self._report(step, error)
            return False
        check = None
        if not jax.process_index():
            shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), host)
            check = self._submit(self._read_back, step, shapes, record["digest"])
        self._saving = Saving(step, score, check)
        return True

    def _submit(self, function, *args):
        """A Future of a call in the reader's thread, or of one made now if no thread can start."""
        try:
            return self._reader.submit(function, *args)
        except RuntimeError:
            future = Future()
            try:
                future.set_result(function(*args))
            except Exception as error:
                future.set_exception(error)
            return future

    def _read_back(self, step, shapes, saved):
        """Wait for a save and read it from disk, in a thread beside the training.

        Raises:
          Exception: of any kind, with which the save failed.
          Damaged: it did not fail, but what is on disk is not what was to be saved.
        """
        self._manager.wait_until_finished()
        self._folders.record(step)
        to_host = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
        try:
            # The handler itself: the manager's restore would wait for all processes.
            found = ocp.PyTreeCheckpointHandler().restore(
                self._folders.plain() / str(step) / "state",
                args=ocp.args.PyTreeRestore(item=shapes, restore_args=to_host),
            )
        except Exception as error:
            raise Damaged(f"it was written, but cannot be read back: {error}") from error
        if wrong := differences(digest(found), saved):
            raise Damaged(f"it was written, but {wrong[0]} is not what was to be saved")

    def complete(self, step, score=None, extra=None):
        """Give a step that is there another score and other extra values; its arrays stay.

        It happens at once or not at all, and where it fails the step stays as it was: that is
        reported loudly and counts as a failed save.
        """
        self._settle()
        score = UNSCORED if score is None else float(score)
        failed = None
        if not jax.process_index():
            try:
                self._folders.complete(step, score=score, extra=extra)
            except (OSError, Damaged) as error:
                failed = error
        together("completed")
        if failed is not None:
            self._failed = (step, self._folders.said(failed))
            warn(
                f"step {step} of {self.folder} could not be given its score: {self._failed[1]}",
                "Training goes on; when the run is started again, that is tried again.",
            )

    def finish(self):
        """Return when the last save is written and was read back.

        Raises:
          CheckpointError: it failed.
        """
        self._settle()
        if self._failed is not None:
            step, error = self._failed
            raise CheckpointError(f"step {step} could not be saved into {self.folder}: {error}")

    def _settle(self):
        """Wait for the save under way; report it where it failed, else let older steps go."""
        saving, self._saving = self._saving, None
        if saving is None:
            return
        failed = None
        try:
            if saving.check is None:
                self._manager.wait_until_finished()
            else:
                saving.check.result()
        except Exception as error:
            failed = error
        if any_process(failed is not None):
            self._report(saving.step, failed or "it failed in another process")
        else:
            self._failed = None
            self._prune()

    def _prune(self):
        """Delete what is neither of the newest nor the best. The newest must be known as whole."""
        best = self.best()
        for step in self.steps()[: -self.keep]:
            if step != best:
                try:
                    self._manager.delete(step)
                except OSError as error:
                    warn(f"step {step} stays: {self._folders.said(error)}")

    def _report(self, step, error):
        self._failed = (step, self._folders.said(error))
        warn(
            f"step {step} could not be saved into {self.folder}: {self._failed[1]}",
            "Training goes on; earlier checkpoints are intact, the next save is tried.",
        )
        # The manager would list the failed step: a new one reads what is really there.
        try:
            self._manager.close()
        except Exception as again:
            print(f"(closing: {again})", file=sys.stderr)
        if not jax.process_index():
            self._folders.clear_leftovers()
            if (self.folder / str(step)).exists():
                self._folders.set_aside(step, f"step {step} was written, but cannot be read back")
        together("reported")
        self._open()
