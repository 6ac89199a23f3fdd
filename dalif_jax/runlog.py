"""What a run writes down and prints: metrics.jsonl, TensorBoard scalars, progress lines."""

import contextlib
import json
import math
import os
import time
from pathlib import Path


class LogError(ValueError):
    """A metrics.jsonl cannot be read; the message names file and line."""


def read_metrics(path):
    """The records of a metrics.jsonl, in order; a torn last line (a kill) is left out.

    Raises:
      FileNotFoundError: no such file.
      LogError: another line is not a JSON object; names file and line.
    """
    records = []
    lines = Path(path).read_bytes().split(b"\n")
    # A whole line ends in a newline, so what follows the last one was never finished.
    for number, line in enumerate(lines[:-1], 1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict) or "kind" not in record:
                raise ValueError("no record of a kind and a step")
            if not isinstance(record.get("step"), int):
                raise ValueError("its step is no integer")
            if not isinstance(record.get("seconds", 0.0), int | float):
                raise ValueError("its seconds are no number")
        except ValueError as error:
            raise LogError(f"{path} line {number} is not a metrics record: {error}") from error
        records.append(record)
    return records


class RunLog:
    """metrics.jsonl and TensorBoard scalars of one run.

    Records of steps after `resume_step` are dropped when it opens: a run continued from that step
    writes them again, so each step stands there once. A value that is not finite is written as
    null, for JSON has no such numbers. Every record holds `seconds`: how long the run has been
    training, with compilation, evaluation and saving, without what was lost between processes.
    """

    def __init__(self, workdir, resume_step, write=True, clock=time.perf_counter):
        self._board = None
        self._clock, self._started = clock, clock()
        if not write:  # one of several processes, but not the first
            self._file = open(os.devnull, "w")  # noqa: SIM115
            return
        self.path = Path(workdir) / "metrics.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            kept = [r for r in read_metrics(self.path) if r["step"] <= resume_step]
            self._started -= max((r.get("seconds", 0.0) for r in kept), default=0.0)
            temporary = self.path.with_suffix(".jsonl.tmp")
            with open(temporary, "w") as file:
                file.writelines(json.dumps(record) + "\n" for record in kept)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        self._file = open(self.path, "a")  # noqa: SIM115  closed by __exit__
        self._board = None
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            print("tensorboardX is not installed: no TensorBoard files, metrics.jsonl has all")
        else:
            self._board = SummaryWriter(
                str(self.path.parent / "tensorboard"), purge_step=resume_step + 1
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()
        if self._board:
            self._board.close()

    def write(self, kind, step, values):
        """Append one record of a kind ("train", "eval") at a step; values may be nested."""
        values = {**_plain(values), "seconds": round(self._clock() - self._started, 3)}
        self._file.write(json.dumps({"kind": kind, "step": step, **values}) + "\n")
        self._file.flush()
        if self._board:
            for name, value in _scalars(values):
                self._board.add_scalar(f"{kind}/{name}", value, step)
            self._board.flush()


def _plain(value):
    """Python numbers, lists and dicts of what may be NumPy or JAX arrays; not finite: None."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _scalars(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _scalars(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield prefix + key, value


class Progress:
    """Progress lines: step, epoch, loss, accuracy, images/s since the last line, time left.

    Time spent inside `paused()` (evaluation, saving) counts for neither rate nor time left, nor
    does what was spent until `stepped` was first called: the first step, which compiles.
    """

    def __init__(self, total_steps, start_step, steps_per_epoch, batch_size,
                 clock=time.perf_counter):  # fmt: skip
        self.total, self.per_epoch, self.batch = total_steps, steps_per_epoch, batch_size
        self.clock = clock
        self.step, self.time = start_step, clock()
        self.rate = 0.0  # images/s
        self._compiled = False

    def stepped(self, step):
        """A step was dispatched; the first one carried the compilation and is left out."""
        if not self._compiled:
            self._compiled, self.step, self.time = True, step, self.clock()

    @contextlib.contextmanager
    def paused(self):
        started = self.clock()
        yield
        self.time += self.clock() - started

    def line(self, step, loss, accuracy, learning_rate):
        """The line for `step`, and the new `rate`: NaN where only the first step was made."""
        now = self.clock()
        steps = step - self.step
        self.rate = steps * self.batch / max(now - self.time, 1e-9) if steps else math.nan
        self.step, self.time = step, now
        pace = "compiled; images/s and time left from the next line"
        if steps:
            left = (self.total - step) * self.batch / max(self.rate, 1e-9)
            pace = f"{self.rate:,.0f} images/s  {duration(left)} left"
        return (
            f"step {step}/{self.total}  epoch {step / self.per_epoch:.2f}  loss {loss:.4f}  "
            f"accuracy {accuracy:.2%}  lr {learning_rate:.4f}  {pace}"
        )


def duration(seconds):
    """1:05, 2:03:04 or 3 d 04:05:06."""
    seconds = round(seconds)
    days, hours = divmod(seconds // 3600, 24)
    minutes, seconds = seconds // 60 % 60, seconds % 60
    if days:
        return f"{days} d {hours:02}:{minutes:02}:{seconds:02}"
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
