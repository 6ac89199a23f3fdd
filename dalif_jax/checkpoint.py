"""Checkpoints: the one file that knows orbax. It knows pytrees of arrays, not what they mean.

orbax writes each step whole or not at all, but restores a flipped bit without a word, casts to
another dtype silently, and takes a folder's name for a checkpoint. So each step holds a digest of
its arrays, checked when it is read, and a step that fails is set aside, never forgotten.
"""

import json
import shutil
import sys
import zlib
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

UNSCORED = float("-inf")


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read; the message names the step and the folder."""


class Damaged(CheckpointError):
    """A step's files are not what was written."""


class NotFinite(CheckpointError):
    """The state to be saved holds values that are no numbers."""


def _score(metrics):
    return metrics["score"]


def digest(tree):
    """{path: [dtype, shape, CRC-32 of the bytes]} of a pytree of arrays in host memory."""
    return {
        jax.tree_util.keystr(path): [
            leaf.dtype.name,
            list(leaf.shape),
            zlib.crc32(np.ascontiguousarray(leaf).tobytes()),
        ]
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _sealed(record):
    """A record with a checksum of itself, for its own file can be damaged too."""
    return {**record, "seal": zlib.crc32(json.dumps(record, sort_keys=True).encode())}


def _unsealed(record):
    record = dict(record)
    if record.pop("seal", None) != zlib.crc32(json.dumps(record, sort_keys=True).encode()):
        raise Damaged("its record is not what was written")
    return record


class Checkpoints:
    """The checkpoints of one run: the newest `keep`, and the best by score.

    Saving is asynchronous; leaving the context waits for it. A step is listed only when it was
    written whole. Of equal scores the later step counts as the best. A save that fails, on a full
    disk for example, is reported loudly and leaves nothing; earlier steps stay, and the next save
    tries again.

    Args:
      folder: where they live; created unless `create` is False.
      keep: how many of the newest stay, at least 1.
    Raises:
      CheckpointError: the folder is missing and `create` is False, or cannot be made.
    """

    def __init__(self, folder, keep, create=True):
        self.folder, self.keep, self.create = Path(folder).absolute(), keep, create
        if not create and not self.folder.is_dir():
            raise CheckpointError(f"no checkpoints: {self.folder} does not exist")
        self._saving = None  # the step whose save has not been waited for
        self._failed = None  # what the last save failed with
        if create:
            self._clear_leftovers()
        self._check_scores()
        _together("opened")
        self._open()

    def _open(self):
        try:
            self._manager = ocp.CheckpointManager(
                self.folder,
                options=ocp.CheckpointManagerOptions(
                    create=self.create,
                    best_fn=_score,
                    preservation_policy=AnyPreservationPolicy(
                        [LatestN(self.keep), BestN(get_metric_fn=_score, n=1)]
                    ),
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
          CheckpointError: a later step exists already.
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
        record = _sealed({"digest": digest(host), "score": score, "extra": extra})
        try:
            # Always a score, for orbax complains where there is none.
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(record)
                ),
                metrics={"score": score},
            )
        except Exception as error:  # the file systems' and tensorstore's errors are of many kinds
            self._report(step, error)
            return False
        self._saving = step
        return True

    def finish(self):
        """Return when the last save is written.

        Raises:
          CheckpointError: it failed.
        """
        self._settle()
        if self._failed is not None:
            step, error = self._failed
            raise CheckpointError(f"step {step} could not be saved into {self.folder}: {error}")

    def _settle(self):
        """Wait for the save under way, and report it where it failed."""
        step, self._saving = self._saving, None
        if step is None:
            return
        try:
            self._manager.wait_until_finished()
            self._failed = None
        except Exception as error:
            self._report(step, error)

    def _report(self, step, error):
        self._failed = (step, " ".join(str(error).split())[:300])
        _warn(
            f"step {step} could not be saved into {self.folder}: {self._failed[1]}",
            "Training goes on; earlier checkpoints are intact, the next save is tried.",
        )
        # The manager would list the failed step: a new one reads what is really there.
        try:
            self._manager.close()
        except Exception as again:
            print(f"(closing: {again})", file=sys.stderr)
        self._clear_leftovers()
        self._open()

    def _clear_leftovers(self):
        """Remove what an unfinished save left. The run's lock says that none is under way."""
        for path in self.folder.glob("*.orbax-checkpoint-tmp*") if not jax.process_index() else ():
            shutil.rmtree(path, ignore_errors=True)

    def _check_scores(self):
        """Set steps aside whose score cannot be read: orbax reads them all when it opens.

        Raises:
          Damaged: there is one, and this is not the run itself (`create` is False).
        """
        for path in sorted(self.folder.glob("[0-9]*/metrics/metrics")):
            step = path.parts[-3]
            if jax.process_index() or not step.isdigit():
                continue
            try:
                float(json.loads(path.read_text())["score"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                message = f"step {step} of {self.folder} is damaged: its score cannot be read"
                if not self.create:
                    raise Damaged(f"{message}: {error}") from error
                self._rename_aside(step, message)

    # ---- Reading.

    def steps(self):
        """Sorted list of the steps that are there; whether they are whole, reading them shows."""
        return sorted(self._manager.all_steps())

    def newest(self):
        """The latest step, or None."""
        return max(self.steps(), default=None)

    def best(self):
        """The step of the highest score among those kept, or None where none has a score."""
        step = self._manager.best_step()
        return None if step is None or _score(self._manager.metrics(step)) == UNSCORED else step

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
        try:
            record = self._manager.restore(
                step, args=ocp.args.Composite(record=ocp.args.JsonRestore())
            )["record"]
            record = _unsealed(record)
            if _score(self._manager.metrics(step)) != record["score"]:
                raise ValueError("its score is not what was saved")
        except Exception as error:  # orbax raises bare Exception, KeyError, JSON errors and more
            raise Damaged(f"step {step} of {self.folder} cannot be read: {error}") from error
        self._compare(step, record["digest"], like)
        try:
            state = self._manager.restore(
                step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like))
            )["state"]
        except Exception as error:
            raise Damaged(f"step {step} of {self.folder} cannot be read: {error}") from error
        found = digest(jax.device_get(state))
        wrong = [path for path in found if found[path] != record["digest"][path]]
        if wrong:
            raise Damaged(
                f"step {step} of {self.folder} is damaged: {wrong[0]} is not what was saved"
                + (f", nor are {len(wrong) - 1} other arrays" if wrong[1:] else "")
            )
        return state, record["extra"]

    def _compare(self, step, saved, like):
        """Raise CheckpointError where the arrays saved are not those expected."""
        expected = {
            jax.tree_util.keystr(path): [np.dtype(leaf.dtype).name, list(leaf.shape)]
            for path, leaf in jax.tree_util.tree_leaves_with_path(like)
        }
        saved = {path: values[:2] for path, values in saved.items()}

        def shown(values):
            return "nothing" if values is None else f"{values[0]} {tuple(values[1])}"

        differing = [
            f"  {path}: {shown(saved.get(path))} there, {shown(expected.get(path))} expected"
            for path in [*expected, *(path for path in saved if path not in expected)]
            if saved.get(path) != expected.get(path)
        ]
        if differing:
            more = f"\n  ... {len(differing)} in all" if differing[8:] else ""
            raise CheckpointError(
                f"step {step} of {self.folder} is of another network:\n"
                + "\n".join(differing[:8])
                + more
            )

    def restore_newest(self, like):
        """The newest step that is whole: (step, state, extra), or None in a new folder.

        A damaged step is set aside as `<step>.corrupt` with a loud warning, and the one before is
        tried.

        Raises:
          CheckpointError: steps are there but none is whole (names all that were tried, so that a
            run never starts again from scratch unasked), or one is of another network.
        """
        tried = []
        for step in reversed(self.steps()):
            try:
                return step, *self.restore(step, like)
            except Damaged as error:
                tried.append(str(error))
                self._set_aside(step, error)
        aside = sorted(path.name for path in self.folder.glob("*.corrupt*"))
        if aside:
            raise CheckpointError(
                "no checkpoint of this run can be read, and it does not start again from scratch "
                f"by itself. Tried in {self.folder}:\n  "
                + "\n  ".join(tried or aside)
                + "\nUse another --workdir, or remove the folder to begin anew"
            )
        return None

    def _set_aside(self, step, error):
        _together("damaged")
        self._rename_aside(step, error)
        _together("set aside")
        self._manager.reload()

    def _rename_aside(self, step, error):
        source, number = self.folder / str(step), 0
        target = self.folder / f"{step}.corrupt"
        while target.exists():
            number += 1
            target = self.folder / f"{step}.corrupt.{number}"
        if not jax.process_index():
            source.rename(target)
        _warn(f"{error}", f"It is set aside as {target}; the checkpoint before it is tried.")


def _together(what):
    """Wait until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(f"checkpoints {what}")


def _warn(*lines):
    print("!" * 78, *lines, "!" * 78, sep="\n", file=sys.stderr, flush=True)
