"""Lock a file against other processes, on file systems that support it."""

import contextlib
import errno
import sys

from filelock import FileLock, Timeout

# What file systems without locks answer, for example Lustre and FUSE mounts.
UNSUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)


class LockedError(RuntimeError):
    """Another process holds the lock."""


@contextlib.contextmanager
def file_lock(path, timeout=-1):
    """Hold the lock of a file. The kernel releases it when the process ends.

    On a file system without locks, print a warning and go on without one.

    Args:
      path: the lock file; created if it is missing, and never followed if it is a link.
      timeout: seconds to wait for another process; -1 waits without limit.
    Raises:
      LockedError: another process holds the lock.
      OSError: the file cannot be opened.
    """
    # A soft lock is a file that outlives a killed process, so there is no fallback to one.
    lock = FileLock(path, timeout=timeout, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise LockedError(str(path)) from error
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        print(
            f"warning: {path}: this file system does not support locks ({error.strerror}), so two "
            "processes that use this directory at once are not detected.",
            file=sys.stderr,
        )
        yield
        return
    try:
        yield
    finally:
        lock.release()
