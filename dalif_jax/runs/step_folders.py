"""Checkpoints as folders on disk, one a step: their records, and what is done with damaged ones."""

import json
import re
import shutil
import tempfile
from pathlib import Path

from dalif_jax.atomic_write import atomic_write
from dalif_jax.runs.runlog import warn
from dalif_jax.runs.seal import not_its_place, sealed, unsealed

# orbax looks for files by glob patterns and URLs that begin with the folder's path.
PLAIN = re.compile(r"[A-Za-z0-9_./ =+,:@#%~-]*")


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read; the message names the step and the folder."""


class Damaged(CheckpointError):
    """A step's files are not what was written."""


class Misplaced(Damaged):
    """A step's files are those of another step or run."""


class StepFolders:
    """The folders `<folder>/<step>`.

    Args:
      folder: where they live.
      run: the settings they belong to, by name, as plain values (JSON).
    """

    def __init__(self, folder, run=None):
        self.folder, self.run = Path(folder).absolute(), run
        self._link = None  # a temporary folder with a link to `folder`

    def make(self):
        """Create the folder. Raises CheckpointError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"{self.folder} cannot hold checkpoints: {error}") from error

    def plain(self):
        """A path to the folder that orbax takes for what it is, whatever characters are in it.

        Raises:
          CheckpointError: it needs a link, and the system's temporary folder is no plainer.
        """
        if PLAIN.fullmatch(str(self.folder)):
            return self.folder
        if self._link is None:
            self._link = tempfile.TemporaryDirectory(prefix="dalif_jax_")
            if not PLAIN.fullmatch(self._link.name):
                raise CheckpointError(
                    f"{self.folder} has characters that need a link to it from a temporary folder, "
                    f"and {self._link.name} has such too: set TMPDIR to a plain path"
                )
            (Path(self._link.name) / "checkpoints").symlink_to(self.folder, True)
        return Path(self._link.name) / "checkpoints"

    def close(self):
        """Remove the link."""
        if self._link is not None:
            self._link.cleanup()
            self._link = None

    def said(self, error):
        """An error's text on one line, with the folder's own name."""
        return " ".join(str(error).split()).replace(str(self.plain()), str(self.folder))[:300]

    # ---- Records.

    def record(self, step, ours=True):
        """A step's record, compared with its seal and, if `ours`, with its step and run.

        Raises:
          Damaged: it cannot be read, or is not what was written; Misplaced: nor written there.
        """
        try:
            record = unsealed(json.loads(self._record(step).read_text()))
        except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
            raise Damaged(f"step {step} of {self.folder} cannot be read: {error}") from error
        if ours and (misplaced := not_its_place(record, step, self.run)):
            raise Misplaced(f"step {step} of {self.folder} was not saved there: {misplaced}")
        return record

    def complete(self, step, **values):
        """Change values of a step's record, at once or not at all. Raises Damaged, OSError."""
        record = sealed({**self.record(step), **values})
        atomic_write(self._record(step), json.dumps(record))

    def _record(self, step):
        return self.folder / str(step) / "record" / "metadata"

    # ---- Damage.

    def clear_leftovers(self):
        """Remove what an unfinished save left. The run's lock says that none is under way."""
        for path in self.folder.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(path, ignore_errors=True)

    def sort_out(self):
        """Set aside each step that is not what was saved there: the best is chosen of them all.

        Raises:
          CheckpointError: that is so of every step, for another run's settings or name: all stay.
        """
        failed, steps = {}, [p.name for p in sorted(self.folder.iterdir()) if p.name.isdigit()]
        for step in steps:
            try:
                self.record(int(step))
            except Damaged as error:
                failed[step] = error
        if steps and all(isinstance(failed.get(step), Misplaced) for step in steps):
            raise CheckpointError(f"{failed[steps[0]]}, nor is another; use the run's own folder")
        for step, error in failed.items():
            self.set_aside(step, error)

    def set_aside(self, step, error):
        """Rename a step's folder to `<step>.corrupt`, loudly."""
        number, target = 0, self.folder / f"{step}.corrupt"
        while target.exists():
            number += 1
            target = self.folder / f"{step}.corrupt.{number}"
        (self.folder / str(step)).rename(target)
        warn(f"{error}", f"It is set aside as {target}; those before it stay.")

    def aside(self):
        """The names of what was set aside."""
        return sorted(path.name for path in self.folder.glob("*.corrupt*"))
