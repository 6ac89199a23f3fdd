"""Output that cannot be written is dropped, and the program goes on."""

import os
import pty
import subprocess
import sys

import pytest
from commands import ROOT

from dalif_jax.runs import output, report, runlog


@pytest.fixture
def failures(monkeypatch):
    monkeypatch.setattr(output, "_failures", {})
    return output._failures


def closed_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    return writing


def full_disk():
    return os.open("/dev/full", os.O_WRONLY)


def closed_terminal():
    main, terminal = pty.openpty()
    os.close(main)
    return terminal


def closed_file():
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    return writing


BROKEN = [closed_pipe, full_disk, closed_terminal, closed_file]


@pytest.mark.parametrize("broken", BROKEN)
def test_output_broken_descriptor_is_noted_once(failures, broken):
    descriptor = broken()
    stream = output.Output(descriptor, "stderr", "utf-8")
    for _ in range(3):
        print("a line", file=stream, flush=True)
    stream.close()
    assert list(failures) == ["stderr"]
    if broken is not closed_file:
        os.close(descriptor)


def test_output_lines_are_written_at_once():
    reading, writing = os.pipe()
    stream = output.Output(writing, "stdout", "ascii")
    print("first é\nsec", end="", file=stream)
    assert os.read(reading, 100) == b"first \\xe9\n"
    stream.write("ond")
    stream.flush()
    assert os.read(reading, 100) == b"second"
    os.close(reading)
    os.close(writing)


def test_output_print_inside_a_write_is_kept(monkeypatch):
    """As a signal handler that prints does."""
    reading, writing = os.pipe()
    stream, write, inside = output.Output(writing, "stdout", "utf-8"), os.write, [True]

    def interrupted(descriptor, data):
        if inside:
            inside.clear()
            print("handler", file=stream)
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", interrupted)
    print("outer", file=stream)
    assert sorted(os.read(reading, 100).splitlines()) == [b"handler", b"outer"]
    os.close(reading)
    os.close(writing)


PROGRAM = """
import sys
from dalif_jax.runs import output
output.install()
print("lost"), print("lost too", file=sys.stderr)
with open(sys.argv[1], "w") as file:
    print(file.fileno(), *sorted(output.failures()), file=file)
sys.exit(7)
"""


@pytest.mark.parametrize(
    ("redirection", "failed"),
    [
        (">&-", ["stdout"]),
        (">&- 2>&-", ["stderr", "stdout"]),
        ("<&- >&- 2>&-", ["stderr", "stdout"]),
        (">/dev/full 2>/dev/full", ["stderr", "stdout"]),
        ("| true", []),
    ],
)
def test_output_broken_streams_keep_the_exit_code(tmp_path, redirection, failed):
    command = f'"{sys.executable}" -c \'{PROGRAM}\' "{tmp_path}/out" {redirection}'
    code = f"set -o pipefail; {command}" if "|" in redirection else command
    done = subprocess.run(["bash", "-c", code], cwd=ROOT, timeout=60)
    assert done.returncode == 7
    descriptor, *names = (tmp_path / "out").read_text().split()
    # A file never receives the number of a standard stream, to which libraries print.
    assert int(descriptor) > 2
    assert names == failed or redirection == "| true"


def test_log_dropped_output_is_recorded_once(tmp_path, failures):
    with runlog.RunLog(tmp_path, 0) as log:
        log.write("train", 1, {"loss": 1.0})
        failures["stdout"] = "Broken pipe"
        log.write("train", 2, {"loss": 1.0})
        log.write("train", 3, {"loss": 1.0})
    records = runlog.read_metrics(tmp_path / "metrics.jsonl")
    noted = [r for r in records if r["kind"] == "output"]
    assert noted == [{"kind": "output", "step": 2, "dropped": {"stdout": "Broken pipe"}}]
    assert [r["step"] for r in records if r["kind"] == "train"] == [1, 2, 3]


ENDS = """
import threading
from dalif_jax.runs import command

command.EXIT_SECONDS = 1
threading.Thread(target=threading.Event().wait).start()  # Python would wait for it without limit


def main(_):
    raise SystemExit({code})


command.run_program(main)
"""


@pytest.mark.parametrize("code", [0, 3])
def test_program_ends_although_a_thread_waits(code):
    done = subprocess.run(
        [sys.executable, "-c", ENDS.format(code=code)], cwd=ROOT, timeout=60, capture_output=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip
    assert done.returncode == code and b"Traceback" not in done.stderr, done.stderr


def test_report_that_cannot_be_drawn_names_the_result(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "records_of", lambda workdir: 1 / 0)
    values = {"checkpoint": "best", "step": 1}
    with pytest.raises(runlog.LogError, match=r"ZeroDivisionError.*eval_best\.json") as error:
        report.write(tmp_path, None, values, None, None)
    assert "\n" not in str(error.value)
