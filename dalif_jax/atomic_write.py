"""Write a file whole or not at all, and never through a link."""

import os
import secrets
from contextlib import suppress
from pathlib import Path


def atomic_write(path, content):
    """Write a file in place of what is at `path`.

    Readers see the old file or the new one, also after a crash: the content is written under a
    random name in the same directory, synced to disk, and renamed. A link at `path` is replaced;
    the file it points to stays as it was.

    Args:
      path: the file. Its directory must exist.
      content: bytes, text (written as UTF-8), or a function that writes into the open binary file
        it receives.
    Raises:
      OSError: the file cannot be written, for example because the disk is full. The temporary file
        is removed, and what was at `path` stays.
    """
    path = Path(path)
    # A short name: next to a file whose name has the longest possible length, a suffix would fail.
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    # O_EXCL fails on every existing name, links included. 0o666 is reduced by the umask, as for
    # any file that a program creates.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(temporary, flags, 0o666)
    try:
        with open(descriptor, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_directory(path.parent)


def _sync_directory(directory):
    """Make a rename last through a power cut, where the file system supports it."""
    with suppress(OSError):  # Windows cannot open directories, some network file systems refuse
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
