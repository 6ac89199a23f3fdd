"""Folders as people name them, and those that cannot be written."""

import os
import sys
import tempfile
from pathlib import Path

import jax

from dalif_jax.exchange import hub
from dalif_jax.settings.config import ConfigError


def folder(path, flag):
    """A folder's name from the command line as a path, `~` in it the home folder.

    Raises:
      ConfigError: there is no home folder, or the name is not in UTF-8.
    """
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"--{flag}={path!a} is not in UTF-8, as the names of checkpoints must be"
        ) from error
    whole = os.path.expanduser(path)
    if whole == path and path.startswith("~"):
        raise ConfigError(f"--{flag}={path}: there is no such home folder; write it out")
    return whole


def card_folder(path, flag):
    """The same of a card, which may be one of a hub by name, `hub:OWNER/NAME`.

    Raises:
      ConfigError: as `folder`; CardError: as hub.fetch.
    """
    return hub.fetch(path) if path.startswith(hub.PREFIX) else folder(path, flag)


class MayBeReadOnly:
    """Context for what is written into a run after the answer was printed: where that cannot be,
    one line says so and how to have it, and the program goes on."""

    def __init__(self, workdir):
        self.workdir, self.failed = workdir, False

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        if not isinstance(error, OSError):
            return False
        if not self.failed:
            print(
                f"not written into {self.workdir}: eval.json, figures, report.html: "
                f"{error.strerror}. --export=FOLDER writes weights and what was measured "
                "elsewhere, and a copy of the run can be evaluated whole",
                file=sys.stderr,
                flush=True,
            )
        self.failed = True
        return True


def compilation_cache():
    """Keep compiled programs on disk, so that the next start of the same run does not compile.

    In JAX_COMPILATION_CACHE_DIR where that is set (empty: no cache), else in the user's cache. A
    place that cannot be written is done without, and a line says so. Asks JAX for its devices.
    """
    place = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if place == "":
        return
    if jax.default_backend() == "cpu" and jax.device_count() > 1:
        # XLA:CPU keeps a program without the order of its collectives: read back, two of them can
        # wait for each other's threads until XLA ends the process.
        jax.config.update("jax_compilation_cache_dir", None)
        return
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        place = Path(place or Path(home) / "dalif_jax" / "xla").expanduser()
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place) as tried:
            tried.write(bytes(65536))
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        print(
            f"compiled programs are not kept: {error}; JAX_COMPILATION_CACHE_DIR=FOLDER keeps them",
            file=sys.stderr,
        )
        place = None
    jax.config.update("jax_compilation_cache_dir", place and str(place))
    # JAX alone keeps what took it a second; a start has dozens of programs that take less.
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
