"""What a run writes down and prints: metrics.jsonl, TensorBoard scalars, progress lines."""

import contextlib
import json
import math
import os
import re
import socket
import sys
import time
from pathlib import Path

from dalif_jax import strict_json
from dalif_jax.atomic_write import atomic_write
from dalif_jax.runs import output


class LogError(ValueError):
    """What a run writes down cannot be read or written; the message names file and line."""


MAX_LOG_BYTES = 2**30
# What a record may hold under these names; None stands for a number that is not finite.
NUMBERS = ("epoch", "loss", "accuracy", "learning_rate", "images_per_second", "peak_mb")
TEXTS, MAX_TEXT = ("device", "split"), 1000


def read_metrics(path):
    """The records of a metrics.jsonl, in order; a torn last line (a kill) is left out.

    Raises:
      FileNotFoundError: no such file.
      LogError: another line is not a JSON object, or a value has another type than RunLog writes;
        names file and line. The file is larger than MAX_LOG_BYTES, or is not a regular one.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise LogError(f"{path} is not a regular file")
    size = path.stat().st_size
    if size > MAX_LOG_BYTES:
        raise LogError(f"{path} has {size:,} bytes; at most {MAX_LOG_BYTES:,} are read")
    records = []
    lines = path.read_bytes().split(b"\n")
    # A whole line ends in a newline, so what follows the last one was never finished.
    for number, line in enumerate(lines[:-1], 1):
        try:
            record = strict_json.parse(line)
            _check_record(record)
        except ValueError as error:
            raise LogError(f"{path} line {number} is not a metrics record: {error}") from error
        records.append(record)
    return records


def _check_record(record):
    """Raise ValueError where a record has another form than RunLog.write gives it."""
    if not isinstance(record.get("kind"), str):
        raise ValueError("no record of a kind and a step")
    if type(record.get("step")) is not int or record["step"] < 0:
        raise ValueError("its step is no integer from 0")
    if type(record.get("seconds", 0.0)) not in (int, float):
        raise ValueError("its seconds are no number")
    for key in NUMBERS:
        if type(record.get(key)) not in (int, float, type(None)):
            raise ValueError(f"its {key} is no number")
    for key in TEXTS:
        value = record.get(key)
        if value is not None and not (isinstance(value, str) and len(value) <= MAX_TEXT):
            raise ValueError(f"its {key} is no text of at most {MAX_TEXT} characters")
    layers = record.get("layers", {})
    if not isinstance(layers, dict) or not all(isinstance(row, dict) for row in layers.values()):
        raise ValueError("its layers are no objects by name")
    for name, row in layers.items():
        for key, value in row.items():
            if not _numeric(value):
                raise ValueError(f"its layers.{name!a:.60}.{key!a:.60} is no number, nor a list")


def _numeric(value):
    if isinstance(value, list):
        return bool(value) and all(map(_numeric, value))
    return type(value) in (int, float, type(None))


class RunLog:
    """metrics.jsonl and TensorBoard scalars of one run.

    Records of steps after `resume_step` are dropped when it opens: a run continued from that step
    writes them again, so each step stands there once. A value that is not finite is written as
    null, for JSON has no such numbers. Every record holds `seconds`: how long the run has been
    training, with compilation, evaluation and saving, without what was lost between processes.

    A record that cannot be written, on a full disk for example, is kept and written with a later
    one; TensorBoard is given up. Both are reported loudly, once. Output of the program that cannot
    be written is noted as a record of the kind "output", once.

    Args:
      again: kinds whose records of `resume_step` itself are to be written again.
    Raises:
      LogError: metrics.jsonl cannot be read or written; on leaving, records were never written.
    """

    def __init__(self, workdir, resume_step, write=True, clock=time.perf_counter, again=()):
        self._board, self._kept, self._warned = None, [], False
        self._clock, self._started = clock, clock()
        self._noted, self._step, self._wall = {}, resume_step, 0.0
        if not write:  # one of several processes, but not the first
            self._file = open(os.devnull, "ab", buffering=0)  # noqa: SIM115
            return
        self.path = Path(workdir) / "metrics.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if self.path.exists():
                self._drop(resume_step, again)
            # Unbuffered: what was written, and what not, is known when `write` returns.
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
            self._file = open(os.open(self.path, flags, 0o666), "ab", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise LogError(f"{self.path} cannot be written: {error}") from error
        try:
            from tensorboardX.proto.event_pb2 import Event, SessionLog
            from tensorboardX.record_writer import RecordWriter
        except ImportError:
            print("tensorboardX is not installed: no TensorBoard files, metrics.jsonl has all")
            return
        # Its SummaryWriter writes in a thread, and one that met a full disk hangs the next write.
        folder = self.path.parent / "tensorboard"
        try:
            folder.mkdir(exist_ok=True)
            self._wall = _after(folder)
            name = f"events.out.tfevents.{self._wall:.0f}.{socket.gethostname()}.{os.getpid()}"
            self._board = RecordWriter(str(folder / name))
            for event in (
                {"file_version": "brain.Event:2"},
                {"session_log": SessionLog(status=SessionLog.START), "step": resume_step + 1},
            ):
                self._board.write(Event(wall_time=self._now(), **event).SerializeToString())
        except OSError as error:
            self._give_up_board(error)

    def _drop(self, resume_step, again):
        """Write the file anew without what the run will write again."""
        kept = [
            record
            for record in read_metrics(self.path)
            if record["step"] < resume_step
            or (record["step"] == resume_step and record["kind"] not in again)
        ]
        self._started -= max((r.get("seconds", 0.0) for r in kept), default=0.0)
        atomic_write(self.path, "".join(json.dumps(record) + "\n" for record in kept))

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self._note_output()
        self._append()
        self._file.close()
        if self._board:
            try:
                self._board.close()
            except OSError as error:
                self._give_up_board(error)
        if self._kept:
            steps = [json.loads(line)["step"] for line in self._kept]
            lost = f"{len(steps)} records of steps {steps[0]} to {steps[-1]}"
            message = f"{lost} could not be written into {self.path}; the checkpoints are intact"
            if kind is None:
                raise LogError(message)
            warn(message)  # beside what else ended the run

    def write(self, kind, step, values):
        """Append one record of a kind ("train", "eval") at a step; values may be nested."""
        self._step = step
        self._note_output()
        values = {**_plain(values), "seconds": round(self._clock() - self._started, 3)}
        self._kept.append((json.dumps({"kind": kind, "step": step, **values}) + "\n").encode())
        self._append()
        if self._board:
            from tensorboardX.proto.event_pb2 import Event
            from tensorboardX.summary import scalar

            try:
                for name, value in _scalars(values):
                    summary = scalar(f"{kind}/{name}", value)
                    event = Event(step=step, summary=summary, wall_time=self._now())
                    self._board.write(event.SerializeToString())
                self._board.flush()
            except OSError as error:
                self._give_up_board(error)

    def _note_output(self):
        """Record, once, why output of the program was dropped."""
        if output.failures() != self._noted:
            self._noted = output.failures()
            record = {"kind": "output", "step": self._step, "dropped": self._noted}
            self._kept.append((json.dumps(record) + "\n").encode())

    def _now(self):
        """The time of an event, never before that of an earlier one."""
        self._wall = max(self._wall, time.time())
        return self._wall

    def _append(self):
        """Write what is kept, whole lines only."""
        end = None
        try:
            while self._kept:
                end = self._file.seek(0, os.SEEK_END)
                line = self._kept[0]
                while line:
                    line = line[self._file.write(line) :]
                del self._kept[0]
        except OSError as error:
            if end is not None:
                self._file.truncate(end)
            if not self._warned:
                warn(
                    f"{self.path} cannot be written: {error}",
                    "Training goes on; what is missing there is kept and written when it can be.",
                )
            self._warned = True

    def _give_up_board(self, error):
        board, self._board = self._board, None
        if board is not None:
            with contextlib.suppress(OSError):
                board.close()
        warn(
            f"{self.path.parent / 'tensorboard'} cannot be written: {error}",
            "TensorBoard gets no more of this process; metrics.jsonl has all.",
        )


def _after(folder):
    """A time in seconds after all event files of a folder, also if the clock was set back.

    TensorBoard reads the files in the order of their names, which begin with this time, and drops
    the steps at and after the start of a later file.
    """
    latest = time.time()
    for path in folder.iterdir():
        if match := re.match(r"events\.out\.tfevents\.(\d+)", path.name):
            latest = max(latest, int(match[1]) + 1, math.ceil(path.stat().st_mtime))
    return latest


def warn(*lines):
    """Print lines between two bars, to standard error."""
    print("!" * 78, *lines, "!" * 78, sep="\n", file=sys.stderr, flush=True)


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
