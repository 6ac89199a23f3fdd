"""What SIGINT, SIGTERM and SIGHUP do before, in and after the training loop."""

import multiprocessing
import os
import signal
import threading

from dalif_jax.runs.output import notice

STOPPING = (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))


def exit_on_signals():
    """End the program at the next signal, with exit code 128 + number and without a traceback.

    The handler raises SystemExit, so that unfinished files are removed on the way out. A second
    signal ends the process at once. In a worker process this does nothing: its parent ends it.
    """
    if multiprocessing.parent_process() is not None:
        return
    _exiting.clear()
    handle(_exit)


def handle(handler):
    """Install a handler of all three signals; returns the handlers before, by number.

    Only the main thread can do this; elsewhere nothing is installed.
    A SIGHUP that is ignored when the program starts, as under nohup, stays ignored.
    """
    before = {}
    if threading.current_thread() is not threading.main_thread():
        return before
    for number in STOPPING:
        old = signal.getsignal(number)
        if number == getattr(signal, "SIGHUP", None) and old is signal.SIG_IGN:
            continue
        before[number] = old
        signal.signal(number, handler)
    return before


def name_of(number):
    return signal.Signals(number).name


_exiting = []


def _exit(number, _):
    if _exiting:
        os._exit(128 + number)
    _exiting.append(number)
    notice(f"{name_of(number)}: the program ends")
    raise SystemExit(128 + number)
