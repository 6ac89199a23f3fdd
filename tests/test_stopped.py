"""A signal at every place of a run, each at a function's entry; then continued, and compared with
the run that never stopped: bit for bit."""

import errno
import fcntl
import os
import shutil
import subprocess
from signal import SIGINT, SIGTERM

import campaign
import pytest

from dalif_jax.runs import command, runlog
from dalif_jax.runs.checkpoint import Checkpoints
from dalif_jax.settings import config

EPOCHS = ("--config.epochs=4", "--config.checkpoint_every=2")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole") / "run"
    campaign.finish(workdir, *EPOCHS)
    return workdir


def best(workdir):
    with Checkpoints(workdir / "checkpoints", 3, create=False) as checkpoints:
        return checkpoints.best()


def stop(workdir, place, count, number):
    """Stop a run there; returns what it printed."""
    process = campaign.start(workdir, *EPOCHS, under=("tests/signalled.py", place, count, number))
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 128 + number, out
    assert "Traceback" not in out, out
    return out


def assert_as_if_never_stopped(workdir, whole):
    out = campaign.finish(workdir, *EPOCHS)
    assert "continuing" in out, out
    assert campaign.result(workdir) == campaign.result(whole)
    assert best(workdir) == best(whole)


def test_stopped_in_two_evaluations_it_ends_as_if_never_stopped(tmp_path, whole):
    """In that of an epoch that would not have been saved, and in that of the last epoch."""
    workdir = tmp_path / "run"
    assert "saved after step 17;" in stop(workdir, "training.evaluation:evaluate", 1, SIGTERM)
    assert "saved after step 68;" in stop(workdir, "training.evaluation:evaluate", 4, SIGINT)
    assert_as_if_never_stopped(workdir, whole)


PLACES = [
    ("compiling", "training:make_program().train_step", 1, SIGTERM),
    ("a step", "training:make_program().train_step", 25, SIGINT),
    ("an epoch's last step", "training:make_program().train_step", 34, SIGTERM),
    ("evaluating an epoch that is saved", "training.evaluation:evaluate", 2, SIGTERM),
    ("a later batch of an evaluation", "training:make_program().eval_step", 5, SIGINT),
    ("the log of an evaluation", "runs.runlog:RunLog.write", 5, SIGTERM),
    ("saving an epoch", "runs.checkpoint:Checkpoints.save", 2, SIGINT),
    ("reading a save back", "runs.step_folders:StepFolders.record", 1, SIGTERM),
    ("waiting for the last save", "runs.checkpoint:Checkpoints.finish", 1, SIGTERM),
    ("measuring the result", "training.evaluation:evaluate", 5, SIGINT),
    ("measuring another split", "training.evaluation:evaluate", 6, SIGTERM),
]


@pytest.mark.slow
@pytest.mark.parametrize(("place", "count", "number"), [p[1:] for p in PLACES],
                         ids=[p[0] for p in PLACES])  # fmt: skip
def test_stopped_anywhere_it_ends_as_if_never_stopped(tmp_path, whole, place, count, number):
    stop(tmp_path / "run", place, count, number)
    assert_as_if_never_stopped(tmp_path / "run", whole)


@pytest.mark.slow
def test_stopped_again_and_again_in_the_same_evaluation(tmp_path, whole):
    workdir = tmp_path / "run"
    stop(workdir, "training.evaluation:evaluate", 2, SIGTERM)
    stop(workdir, "training.evaluation:evaluate", 1, SIGTERM)
    # When the evaluation was done and the checkpoint is given its score.
    stop(workdir, "runs.checkpoint:Checkpoints.complete", 1, SIGINT)
    assert_as_if_never_stopped(workdir, whole)


@pytest.mark.slow
def test_killed_between_a_repeated_evaluation_and_its_score(tmp_path, whole):
    """The record of the evaluation is in the log by then, and must not come twice."""
    workdir = tmp_path / "run"
    stop(workdir, "training.evaluation:evaluate", 2, SIGTERM)
    under = ("tests/signalled.py", "runs.checkpoint:Checkpoints.complete", 1, 9)
    process = campaign.start(workdir, *EPOCHS, under=under)
    process.communicate(timeout=300)
    assert process.returncode == -9
    evals = [r for r in runlog.read_metrics(workdir / "metrics.jsonl") if r["kind"] == "eval"]
    assert [r["step"] for r in evals] == [17, 34]
    assert_as_if_never_stopped(workdir, whole)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["training.evaluation:write_report", "runs.report:write"])
def test_signal_in_the_report_leaves_no_partial_file(tmp_path, whole, place):
    process = campaign.start(
        tmp_path / "run", *EPOCHS, under=("tests/signalled.py", place, 1, SIGTERM)
    )
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 143 and "Traceback" not in out, out
    assert not list((tmp_path / "run").glob(".*.tmp"))
    campaign.finish(tmp_path / "run", *EPOCHS)
    assert campaign.result(tmp_path / "run") == campaign.result(whole)


# ---- What was taken away, and what lies where the run keeps something else.


def test_without_its_checkpoints_it_never_starts_from_scratch(tmp_path, whole):
    workdir = tmp_path / "run"
    shutil.copytree(whole, workdir)
    shutil.rmtree(workdir / "checkpoints")
    before = (workdir / "metrics.jsonl").read_bytes()
    process = campaign.start(workdir, *EPOCHS)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 2 and "Traceback" not in out, out
    (line,) = (line for line in out.splitlines() if line.startswith("error: "))
    assert "reaches step 68, but" in line and "is gone" in line and "to begin anew" in line
    assert (workdir / "metrics.jsonl").read_bytes() == before
    assert not (workdir / "checkpoints").exists()


@pytest.mark.parametrize(
    ("name", "made"),
    [
        *((name, "file") for name in command.FOLDERS),
        *((name, "folder") for name in (*command.FILES, "config.json.tmp", "curves.png")),
        ("metrics.jsonl", "pipe"),
    ],
)
def test_what_lies_in_the_runs_places_is_named_before_anything_is_done(tmp_path, name, made):
    make = {"file": lambda p: p.write_text("mine"), "folder": os.mkdir, "pipe": os.mkfifo}[made]
    make(tmp_path / name)
    with pytest.raises(config.ConfigError, match=rf"{name} is no f.*move it away"):  # noqa: SIM117
        with command.only_one(tmp_path):
            raise AssertionError("the lock was given")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "name",
    [*command.FOLDERS, *command.FILES, "metrics.jsonl.tmp", "curves.png", "eval_best.json",
     "report_best.html", "tensorboard/events.out.tfevents.1.x", "checkpoints/17"],
)  # fmt: skip
def test_check_places_link_is_refused(tmp_path, name):
    (tmp_path / "outside").write_text("mine")
    workdir = tmp_path / "run"
    (workdir / name).parent.mkdir(parents=True)
    (workdir / name).symlink_to(tmp_path / "outside")
    with pytest.raises(config.ConfigError, match=f"{name} is a link"):  # noqa: SIM117
        with command.only_one(workdir):
            raise AssertionError("the lock was given")
    assert (tmp_path / "outside").read_text() == "mine"


def test_check_places_workdir_may_be_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    with command.only_one(tmp_path / "run"):
        assert (tmp_path / "disk" / ".lock").exists()


@pytest.mark.parametrize("number", ["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def test_lock_unsupported_warns_and_goes_on(tmp_path, monkeypatch, capsys, number):
    def refuse(*_):
        raise OSError(getattr(errno, number), "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with command.only_one(tmp_path / "run"):
        pass
    assert f"{tmp_path / 'run' / '.lock'}: this file system" in capsys.readouterr().err


def test_a_file_in_the_place_of_the_checkpoints_ends_the_command_at_once(tmp_path):
    (tmp_path / "checkpoints").write_text("mine")
    process = campaign.start(tmp_path, *EPOCHS)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 2 and "Traceback" not in out, out
    assert f"error: {tmp_path}/checkpoints is no folder" in out
    assert (tmp_path / "checkpoints").read_text() == "mine"


# ---- A disk that is really full.


@pytest.fixture
def small_disk(tmp_path):
    """A function that makes a disk of so many KiB; skips where mounting is not allowed."""
    mounted = []

    def make(size):
        folder = tmp_path / "disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True).returncode
        except FileNotFoundError:
            done = 1
        if done:
            pytest.skip("mounting is not allowed here")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    """Write until nothing more fits; returns the file."""
    with open(folder / "filler", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return folder / "filler"


def test_a_log_on_a_full_disk_is_written_when_there_is_room(small_disk, capsys):
    disk = small_disk(512)
    with runlog.RunLog(disk, 0, clock=lambda: 1.0) as log:
        log.write("train", 1, {"loss": 1.0})
        filler = fill(disk)
        for step in range(2, 200):
            log.write("train", step, {"loss": float(step)})
        during = runlog.read_metrics(disk / "metrics.jsonl")
        filler.unlink()
        log.write("train", 200, {"loss": 200.0})
    expected = [
        {"kind": "train", "step": k, "loss": float(k), "seconds": 0.0} for k in range(1, 201)
    ]
    assert during == expected[: len(during)] and len(during) < 199
    assert runlog.read_metrics(disk / "metrics.jsonl") == expected
    told = capsys.readouterr().err
    assert told.count("metrics.jsonl cannot be written") == 1 and "No space left" in told
    assert told.count("TensorBoard gets no more") == 1


def test_what_never_found_room_is_named(small_disk):
    disk = small_disk(256)
    with pytest.raises(runlog.LogError, match=r"of steps \d+ to 299 could not be written into"):  # noqa: SIM117
        with runlog.RunLog(disk, 0) as log:
            fill(disk)
            for step in range(1, 300):
                log.write("train", step, {"loss": 1.0})
    steps = [r["step"] for r in runlog.read_metrics(disk / "metrics.jsonl")]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) < 299


@pytest.mark.slow
@pytest.mark.parametrize("room", [0, 40, 200, 700])
def test_a_run_on_a_full_disk_ends_with_one_line_and_goes_on_when_there_is_room(
    small_disk, whole, room
):
    """`room`: KiB left after a save; what was saved is not lost, and with none left it is said."""
    disk = small_disk(4096)
    stop(disk / "run", "training:make_program().train_step", 40, SIGTERM)
    (disk / "room").write_bytes(bytes(1024 * room))
    filler = fill(disk)
    (disk / "room").unlink()
    process = campaign.start(disk / "run", *EPOCHS)
    out, _ = process.communicate(timeout=300)
    assert process.returncode in (0, 2) and "Traceback" not in out, out
    assert out.count("\nerror: ") == (process.returncode == 2), out
    assert process.returncode == 2 or room, out
    filler.unlink()
    campaign.finish(disk / "run", *EPOCHS)
    found, expected = campaign.result(disk / "run"), campaign.result(whole)
    assert found[:2] == expected[:2] and found[3] == expected[3]
