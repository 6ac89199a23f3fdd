"""Standard output and error that never end a run: what cannot be written is dropped.

A reader leaves (`| head`), a disk is full, a terminal is closed: then Python's streams raise in the
middle of the program, and again when the interpreter exits. A signal handler that prints can also
interrupt a write, which Python's streams do not allow.
"""

import contextlib
import io
import os
import sys
import threading

_failures = {}  # {stream name: error text}, one for each stream


class Output(io.TextIOBase):
    """Text stream on a file descriptor, line buffered, whose writes never raise OSError.

    Args:
      descriptor: the file descriptor.
      name: "stdout" or "stderr", for messages.
      encoding: of the text. Characters that it lacks are written as backslash escapes.
    """

    def __init__(self, descriptor, name, encoding):
        self._descriptor, self._name, self._encoding = descriptor, name, encoding
        self._pending = ""  # text since the last newline
        self._lock = threading.RLock()

    encoding = property(lambda self: self._encoding)
    errors = property(lambda self: "backslashreplace")
    name = property(lambda self: f"<{self._name}>")

    def fileno(self):
        return self._descriptor

    def isatty(self):
        return os.isatty(self._descriptor)

    def writable(self):
        return True

    def write(self, text):
        """Write whole lines now and keep the rest; returns the number of characters."""
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        with self._lock:
            lines, newline, self._pending = (self._pending + text).rpartition("\n")
            self._send(lines + newline)
        return len(text)

    def flush(self):
        with self._lock:
            text, self._pending = self._pending, ""
            self._send(text)

    def close(self):
        """Write what is left. The descriptor stays open: libraries write to it, too."""
        self.flush()

    def _send(self, text):
        data = text.encode(self._encoding, "backslashreplace")
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            _failed(self._name, error)


def install():
    """Replace sys.stdout and sys.stderr by streams that never raise.

    Descriptors that the program was started without (`>&-`) are opened on /dev/null, because
    otherwise the next file opened would receive what libraries print.

    Returns:
      whether it did: not where something else has replaced the streams, as notebooks and pytest do.
    """
    if sys.stdout is not sys.__stdout__ or sys.stderr is not sys.__stderr__:
        return False
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError as error:
            os.open(os.devnull, os.O_RDWR)  # the lowest free descriptor, which is this one
            if descriptor:
                _failures[name] = f"closed at the start ({error.strerror})"
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.flush()
        encoding = getattr(stream, "encoding", None) or "utf-8"
        setattr(sys, name, Output(descriptor, name, encoding))
    return True


def failures():
    """{"stdout" or "stderr": why its text was dropped}, empty if everything was written."""
    return dict(_failures)


def notice(text):
    """Write a line to standard error from a signal handler: it cannot fail or wait for a lock."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{text}\n".encode())


def _failed(name, error):
    if name in _failures:
        return
    _failures[name] = error.strerror or str(error)
    if name == "stdout":
        notice(f"warning: standard output cannot be written ({_failures[name]}); the program "
               "goes on, and its lines are dropped.")  # fmt: skip
