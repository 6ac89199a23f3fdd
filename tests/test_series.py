"""Series of runs: how much they are, how they go on, what they refuse."""

import functools
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from ablations import records, runs, systems, tables
from ablations.statistics import rank_correlation
from configs.digits import get_config as digits
from configs.systems import SYSTEMS
from dalif_jax.settings import config

ROOT = Path(__file__).resolve().parent.parent


def test_a_series_says_how_much_it_is_before_it_starts(tmp_path):
    given = SimpleNamespace(config="configs/digits.py", seeds=5, jobs=1, parts=("arms", "steps"))
    assert runs.announcement(given, 15, 75) == (
        "75 runs of configs/digits.py: 15 settings x 5 seeds, one after the other; --seeds, "
        "--arms, --steps and --config.epochs=N make it less; Ctrl-C stops, the same command goes on"
    )
    assert "5 seeds, 70 of them finished, one" in runs.announcement(given, 15, 5)


BUSY = "import time; end = time.process_time() + 1.0\nwhile time.process_time() < end: pass"


@pytest.mark.skipif(runs.busy_seconds() is None, reason="the kernel is not Linux")
def test_what_a_run_took_of_the_cores_is_told_from_what_others_took():
    before = runs.busy_seconds()
    code, own = runs.ended(subprocess.Popen([sys.executable, "-c", BUSY + "\nraise SystemExit(3)"]))
    assert code == 3 and 1.0 <= own < 2.0
    assert runs.busy_seconds() - before > own - 0.1


def test_rank_correlation():
    assert rank_correlation([1.0, 2.0, 9.0]) == pytest.approx(1)
    assert rank_correlation([3.0, 2.0, 1.0]) == pytest.approx(-1)
    assert rank_correlation([2.0, 2.0, 2.0]) == 0


SERIES = [sys.executable, "-m", "ablations.key", "--key", "decay_function", "--values",
          "sigmoid,tanh", "--config", "configs/digits.py"]  # fmt: skip


def series(workdir, *arguments):
    command = [*SERIES, "--workdir", workdir, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


FAILING = """
import sys
from pathlib import Path
from types import SimpleNamespace
from ablations import runs
given = SimpleNamespace(
    config="configs/digits.py", seeds=1, jobs=1, parts=(), workdir=Path(sys.argv[1]), known=[]
)
wrong = {"wrong": {"loss": "nothing"}}
print(runs.series(given, [], wrong, keep_failed=True))
runs.series(given, [], wrong)
"""


def test_a_run_that_fails_is_a_record_with_its_reason_where_it_is_to_be(tmp_path):
    """Asked so, else it ends the series. In a process of its own, for a series forks."""
    done = subprocess.run(
        [sys.executable, "-c", FAILING, tmp_path], cwd=ROOT, capture_output=True, text=True
    )
    (failed,) = json.loads((tmp_path / "results.json").read_text())["runs"]
    assert failed["name"] == "wrong" and "nothing" in failed["failed"], failed
    assert str([failed]) in done.stdout
    assert "wrong, seed 0 ended with 2" in done.stderr and done.returncode == 1


HERE = records.machine()
ELSEWHERE = {"cpu": "another", "cores": 64, "jax": "0.0.1"}


def made(name, seed, accuracy=0.5, machine=None, **keys):
    """A record of a run, as a series of `ablations.key` gives it."""
    value = name.removeprefix("decay_function=")
    command = ["train.py", "--config", "configs/digits.py", "--config.data_dir=...",
               f"--config.decay_function={value}", f"--config.seed={seed}"]  # fmt: skip
    own = {"machine": machine} if machine else {}
    return {"name": name, "seed": seed, "command": command, "accuracy": accuracy, **own, **keys}


def asked(*pairs):
    return {(name, seed): [w for w in made(name, seed)["command"] if "_dir" not in w]
            for name, seed in pairs}  # fmt: skip


TANH, SIGMOID = "decay_function=tanh", "decay_function=sigmoid"


def test_a_file_of_records_says_of_each_where_it_was_trained(tmp_path):
    path = tmp_path / "new" / "results.json"
    here, there = made(TANH, 0), made(TANH, 1, machine=ELSEWHERE)
    records.save(path, [here, there])
    held = json.loads(path.read_text())
    assert {key: held[key] for key in HERE} == HERE and held["runs"] == [here, there]
    assert records.read(path) == [made(TANH, 0, machine=HERE), there]
    records.save(path, records.read(path))
    assert json.loads(path.read_text()) == held and [p.name for p in path.parent.iterdir()] == [
        "results.json"
    ]
    assert tables.machine(held, held["runs"][1:]) == "another, 64 cores"
    assert tables.machine(held, held["runs"]).endswith("cores and another, 64 cores")
    assert tables.versions(held) == f"jax {HERE['jax']} and 0.0.1"
    assert tables.versions({"runs": [here]}) == "version not noted"


def test_processors_of_one_name_are_told_apart_where_they_differ():
    def on(**keys):
        return {"machine": {"cpu": "some CPU", "cores": 2, **keys}}

    new, old, unknown = on(cpu_kind="26 2"), on(cpu_kind="25 1"), on()
    gpu = {**new, "device": "1 x gpu"}
    assert tables.machine({}, [new, new]) == "some CPU, 2 cores"
    assert tables.machine({}, [unknown]) == "some CPU, 2 cores"
    assert tables.machine({}, [new, old, gpu]) == (
        "some CPU, 2 cores (family 26 model 2 and family 25 model 1) and 1 x gpu"
    )
    assert tables.machine({}, [old, unknown]).endswith("(family 25 model 1 and kind not noted)")


def test_a_series_goes_on_from_records_of_other_files():
    """Each run once, the first that ended; one that failed is tried again; others are kept."""
    first = [made(TANH, 0), made(SIGMOID, 0, failed="lost"), made("other", 0)]
    second = [made(TANH, 0, 0.9), made(TANH, 1), made(SIGMOID, 1, failed="lost"),
              made("gone", 0, failed="lost")]  # fmt: skip
    wanted = asked(*((name, seed) for seed in (0, 1, 2) for name in (TANH, SIGMOID)))
    assert records.going_on([first, second], wanted) == [first[0], first[2], second[1], second[3]]
    second[2] = made(SIGMOID, 0)
    assert second[2] in records.going_on([first, second], wanted)
    assert records.going_on([], wanted) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--config.seed=0", "--config.seed=00"), "tanh, seed 0 was trained by another command"),
        (("configs/digits.py", "configs/x.py"), "is of configs/x.py, not of configs/digits.py"),
    ],
)
def test_records_of_another_series_are_refused(change, message):
    run = made(TANH, 0)
    run["command"] = [word.replace(*change) for word in run["command"]]
    with pytest.raises(SystemExit, match=message):
        records.going_on([[run]], asked((TANH, 0)))


def test_what_is_known_is_not_trained(tmp_path):
    known = tmp_path / "known.json"
    numbers = {"decays": {}, "curve": [[1, 0.5]], "seconds": 1.0}
    runs = [made(f"decay_function={value}", seed, 0.5 + 0.1 * seed, machine=ELSEWHERE, **numbers)
            for seed in (0, 1) for value in ("sigmoid", "tanh")]  # fmt: skip
    records.save(known, runs)
    code, out = series(tmp_path / "x", "--seeds", "2", "--known", known)
    assert code == 0 and "2 settings x 2 seeds, 4 of them finished" in out, out
    assert json.loads((tmp_path / "x" / "results.json").read_text())["runs"] == runs
    known.write_text('{"runs": [1]}')
    code, out = series(tmp_path / "y", "--known", known)
    assert code == 2 and "known.json is no results.json of a series" in out, out
    assert not (tmp_path / "y").exists()


def test_every_piece_and_every_system_is_a_setting_of_its_own():
    """Pieces differ from the baseline in one key; what does not fit the digits says why."""
    every = systems.settings()
    for kind, table in systems.TABLES.items():
        for name in set(table) - {systems.PLAIN[kind], *systems.SAME}:
            key = f"{kind}-{name}"
            assert every[key] == every["lif"] | {kind: name} | systems.NARROW.get(key, {})
    assert set(SYSTEMS) | set(systems.DALIF) < set(every)
    unfit = {}
    for name, keys in every.items():
        settings = digits()
        for key, value in keys.items():
            *path, last = key.split(".")
            functools.reduce(lambda at, part: at[part], path, settings)[last] = value
        try:
            config.validate(settings, 1)
        except config.ConfigError as error:
            unfit[name] = str(error)
    assert len(every) - len(unfit) > 45, unfit


def test_the_time_left_is_the_mean_of_the_runs_so_far():
    assert runs.ahead([60.0], 3, jobs=1) == 180.0
    assert runs.ahead([10.0, 50.0], 5, jobs=2) == 3 * 30.0  # the first went on from its middle


@pytest.mark.slow
def test_a_series_trains_compares_draws_and_goes_on(tmp_path):
    keys = ("--seeds", "2", "--config.model=tiny", "--config.epochs=2", "--config.timesteps=2")
    code, out = series(tmp_path, *keys)
    assert code == 0, out
    assert "decay_function=tanh - decay_function=sigmoid" in out and "not resolved" in out
    assert out.startswith("4 runs of configs/digits.py: 2 settings x 2 seeds, one after the other")
    assert re.findall(r"(\d)/4 .*\(\d+ s, about \d:\d\d left\)", out) == ["1", "2", "3"], out
    runs = json.loads((tmp_path / "results.json").read_text())["runs"]
    assert {(r["name"], r["seed"]) for r in runs} == {
        (f"decay_function={name}", seed) for name in ("tanh", "sigmoid") for seed in (0, 1)
    }
    assert all(len(r["curve"]) == 2 and r["seconds"] > 0 for r in runs)
    assert (tmp_path / "decay_function.png").stat().st_size > 10_000
    # What is finished is not trained again; what is missing is.
    (tmp_path / "decay_function=tanh" / "seed1" / "eval.json").unlink()
    before = (tmp_path / "decay_function=tanh" / "seed0" / "eval.json").stat().st_mtime_ns
    code, out = series(tmp_path, *keys)
    assert code == 0, out
    assert (tmp_path / "decay_function=tanh" / "seed0" / "eval.json").stat().st_mtime_ns == before
    again = json.loads((tmp_path / "results.json").read_text())["runs"]
    assert [r["accuracy"] for r in again] == [r["accuracy"] for r in runs]
    assert "3 of them finished" in out and " left)" not in out


@pytest.mark.slow
def test_a_terminated_series_ends_its_runs_and_goes_on(tmp_path):
    keys = ["--seeds", "1", "--config.model=tiny", "--config.epochs=60", "--config.timesteps=2",
            "--config.log_every=1"]  # fmt: skip
    process = subprocess.Popen([*SERIES, "--workdir", tmp_path, *keys], cwd=ROOT)
    log, deadline = (
        tmp_path / "decay_function=sigmoid" / "seed0" / "log.txt",
        time.monotonic() + 120,
    )
    while not (log.exists() and "step 20/" in log.read_text()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.terminate()
    assert process.wait(60) == 143
    assert "saved after step" in log.read_text()  # the run had ended before the series did
    code, out = series(tmp_path, *keys)
    assert code == 0 and "continuing" in log.read_text(), out
    (one, *_) = json.loads((tmp_path / "results.json").read_text())["runs"]
    assert one["curve"][-1][0] == 60 and one["seconds"] == one["curve_seconds"][-1] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--seeds", "0"), "--seeds=0 must be at least 1"),
        (("--confg.epochs=2",), "unknown argument --confg.epochs=2"),
        (("--values", "tanh"), "--values=tanh is one value, nothing to compare"),
    ],
)
def test_wrong_arguments_are_named_before_anything_runs(tmp_path, arguments, message):
    code, out = series(tmp_path / "x", *arguments)
    assert code == 2 and message in out and not (tmp_path / "x").exists(), out
