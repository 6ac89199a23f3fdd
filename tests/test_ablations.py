"""Ablations: intervals against hand figures, verdicts on made data, a series that goes on."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ablations import fig1a, fig2, fig3
from ablations.statistics import interval, paired, rank_correlation

ROOT = Path(__file__).resolve().parent.parent


def test_the_interval_is_students():
    # Mean 2, standard deviation 1, n = 3: t = 4.3027 of two degrees of freedom.
    found = interval([1, 2, 3])
    assert found.mean == 2 and found.verdict == "not resolved"
    np.testing.assert_allclose([found.low, found.high], 2 + 4.302653 / 3**0.5 * np.array([-1, 1]),
                               rtol=1e-6)  # fmt: skip
    assert interval([1.0, 1.1, 0.9]).verdict == "higher"
    assert interval([-1.0, -1.1, -0.9]).verdict == "lower"
    assert interval([0.0, 0.0]).verdict == "identical"
    assert interval([5.0]).verdict == "not resolved"


def test_pairs_are_of_one_seed():
    rows = [("a", 0, 0.9), ("a", 1, 0.5), ("b", 1, 0.4), ("b", 0, 0.8), ("b", 2, 0.0)]
    records = [{"name": n, "seed": s, "accuracy": a} for n, s, a in rows]
    found = paired(records, "a", "b")
    np.testing.assert_allclose(found.mean, 0.1)
    assert found.verdict == "higher"
    with pytest.raises(ValueError, match="a and c share no seed"):
        paired(records, "a", "c")


def test_arms_are_compared_at_every_number_of_steps():
    records = [
        {"name": f"T{t}-{arm}", "seed": seed,
         "accuracy": 0.9 + 0.01 * seed + 0.02 * (arm == "both") * (t > 1)}
        for t in fig2.STEPS for arm in fig2.ARMS for seed in range(3)
    ]  # fmt: skip
    verdicts = {
        (row["timesteps"], row["arm"], row["against"]): row["verdict"]
        for row in fig2.compare(records)
    }
    assert len(verdicts) == 15
    assert verdicts[1, "both", "baseline"] == "identical"
    assert verdicts[4, "both", "baseline"] == verdicts[4, "both", "control"] == "higher"
    part = fig2.compare(records, ("both", "control"), (4,))
    assert [(row["arm"], row["against"], row["timesteps"]) for row in part] == [
        ("both", "control", 4)
    ]


def test_the_grid_tells_a_decay_that_matters_from_one_that_does_not():
    noise = np.random.default_rng(0).normal(0, 0.001, (4, 4, 3))
    values = 0.5 + 0.1 * np.arange(4)[:, None, None] + noise
    found = fig1a.test(values)
    assert found["p_alpha"] < 1e-4 and found["p_beta"] > 0.05
    assert abs(found["gap"] - 0.3) < 0.01 and found["seed_spread"] < 0.002


def test_the_three_claims_on_made_decays():
    def record(seed, alphas, betas):
        jitter = 1e-3 * np.random.default_rng(seed).normal(size=(2, len(alphas)))
        return {"decays": {
            f"layer{i}": {"alpha": [0.76, a + jitter[0, i]], "beta": [0.76, b + jitter[1, i]]}
            for i, (a, b) in enumerate(zip(alphas, betas, strict=True))
        }}  # fmt: skip

    rising, still = [0.5, 0.6, 0.8, 0.9], [0.7616] * 4
    found = fig3.claims(
        [record(seed, rising, rising) for seed in range(5)], {"alpha": 0.7616, "beta": 0.7616}
    )
    assert [found[d]["moved"]["verdict"] for d in ("alpha", "beta")] == ["supported"] * 2
    assert found["alpha"]["distinct"]["verdict"] == "supported"
    # Both rise with depth: what the paper says of alpha, the contrary of what it says of beta.
    assert found["alpha"]["depth"]["verdict"] == "supported"
    assert found["beta"]["depth"]["verdict"] == "contradicted"
    found = fig3.claims(
        [record(seed, still, still) for seed in range(5)], {"alpha": 0.7616, "beta": 0.7616}
    )
    assert found["beta"]["distinct"]["verdict"] == "not resolved"
    assert found["beta"]["depth"]["verdict"] == "not resolved"
    assert len(list(fig3.lines(found))) == 6


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


@pytest.mark.slow
def test_a_series_trains_compares_draws_and_goes_on(tmp_path):
    keys = ("--seeds", "2", "--config.model=tiny", "--config.epochs=2", "--config.timesteps=2")
    code, out = series(tmp_path, *keys)
    assert code == 0, out
    assert "decay_function=tanh - decay_function=sigmoid" in out and "not resolved" in out
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
    ],
)
def test_wrong_arguments_are_named_before_anything_runs(tmp_path, arguments, message):
    code, out = series(tmp_path / "x", *arguments)
    assert code == 2 and message in out and not (tmp_path / "x").exists(), out
