"""Where what is worked out once is kept, and the one line where it cannot be."""

import os
from pathlib import Path


def folder(cache_dir, default):
    """Path of `cache_dir`; "" means the folder `default` in $XDG_CACHE_HOME/dalif_jax, where
    that is not set ~/.cache/dalif_jax.

    Raises:
      OSError: this account has no home folder.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "dalif_jax" / default
    try:
        return Path(cache_dir or home).expanduser()
    except RuntimeError as error:
        raise OSError(f"no home folder: {error}") from error


def say_not_kept(what, error):
    """Print that something is done without being kept, why, and what would change that."""
    print(
        f"{what} not kept, for the cache cannot be written: {error}. --config.cache_dir=FOLDER of "
        "train.py, or XDG_CACHE_HOME, names another place",
        flush=True,
    )
