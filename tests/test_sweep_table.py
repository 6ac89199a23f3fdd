"""What is made of a sweep's records: ranking, correction, page and pictures; one trained for it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ablations import sweep, sweep_table
from dalif_jax.analysis import figures

ROOT = Path(__file__).resolve().parent.parent
RECIPE = "configs/digits.py"


def made(settings, accuracy, seeds=3):
    """Records of a series; `accuracy` of (keys, seed), a text for a run that failed."""
    out = []
    for seed in range(seeds):
        for name, keys in settings.items():
            words = [f"--config.{key}={value}" for key, value in keys.items()]
            gave = accuracy(keys, seed)
            out.append({
                "name": name, "seed": seed,
                "command": ["train.py", "--config", RECIPE, "--config.epochs=1", *words,
                            f"--config.seed={seed}"],
                **({"failed": gave} if isinstance(gave, str) else {"accuracy": gave}),
            })  # fmt: skip
    return out


# Minus the first, by seed: 0.01, 0.02, 0.03; mean 0.02, standard error 0.01 / sqrt(3), so t is
# 2 sqrt(3) = 3.4641 of two degrees of freedom: p = 1 - t / sqrt(t^2 + 2) = 0.07418; the interval
# is 0.02 -+ 4.30265 * 0.0057735. And 0.099, 0.1, 0.101: t = 100 sqrt(3), p = 3.3330e-5.
GAINS = {"1": (0, 0, 0), "2": (0.01, 0.02, 0.03), "4": (0.099, 0.1, 0.101)}


def test_settings_are_ranked_and_corrected():
    found = sweep.grid(["timesteps=1,2,4"])
    runs = made(
        found.settings, lambda keys, seed: 0.5 + 0.1 * seed + GAINS[keys["timesteps"]][seed]
    )
    rows = sweep_table.rows_of(runs)
    assert [row.name for row in rows] == ["timesteps=4", "timesteps=2", "timesteps=1"]
    two, four = sweep_table.comparisons(runs)
    assert two["against"] == "timesteps=1" and two["seeds"] == 3
    np.testing.assert_allclose([two["mean"], two["low"], two["high"]],
                               [0.02, -0.0048414, 0.0448414], rtol=1e-4)  # fmt: skip
    assert two["p"] == two["corrected"] == pytest.approx(0.07418, rel=1e-4)
    assert four["p"] == pytest.approx(3.3330e-5, rel=1e-3)
    assert four["corrected"] == pytest.approx(2 * four["p"])  # the smaller of two
    assert [two["verdict"], four["verdict"]] == ["not resolved", "higher"]
    assert json.loads(json.dumps([two, four], allow_nan=False)) == [two, four]
    assert sweep_table.lines(runs) == [
        "timesteps=4  70.00 %  +10.00 points, 95 % interval +9.75 to +10.25  higher",
        "timesteps=2  62.00 %  +2.00 points, 95 % interval -0.48 to +4.48  not resolved",
        "timesteps=1  60.00 %",
        "verdicts: against the reference, p corrected by Holm for 2 comparisons; each interval is "
        "its own difference's alone",
    ]


def test_the_page_is_of_the_results_alone():
    found = sweep.draws(["timesteps=1|2|4", "surrogate=arctan|bell"], 4, 1)

    def accuracy(keys, seed):
        return "the loss is nan" if keys.get("timesteps") == "4" else 0.5 + 0.1 * seed

    runs = made(found.settings, accuracy, 2)
    assert {run.get("failed") for run in runs} == {None, "the loss is nan"}
    text = sweep_table.page({"cpu": "some CPU", "cores": 2, "jax": "0.12.0", "runs": runs})
    assert text[0] == "# `timesteps`, `surrogate`"
    assert text[2].startswith(
        f"`{RECIPE} --config.epochs=1`: {len(found.settings)} settings x 2 seeds, jax 0.12.0, some "
        "CPU, 2 cores. "
    )
    rows = text[6:]
    assert len(rows) == len(found.settings)
    assert "| the recipe's | the recipe's | 55.00 (50.00 to 60.00) |  |  | the reference |" in rows
    failed = [row for row in rows if "failed" in row]
    assert failed and rows[-len(failed) :] == failed
    assert failed[0].startswith("| `4` |") and failed[0].endswith("failed: the loss is nan |")
    same = next(row for row in rows if "`1`" in row or "`2`" in row)
    assert same.endswith("| 55.00 (50.00 to 60.00) | +0.00 points |  | identical |")


def test_a_setting_that_failed_with_some_seeds_says_both():
    found = sweep.grid(["timesteps=1,2,4"])

    def accuracy(keys, seed):
        steps = keys["timesteps"]
        return "the loss is nan" if seed == 3 and steps != "1" else 0.5 + GAINS[steps][seed % 3]

    runs = made(found.settings, accuracy, 4)
    four, two, one = sweep_table.page({"cpu": "", "cores": 2, "jax": "0.12.0", "runs": runs})[6:]
    assert four.endswith("| higher; 1 failed: the loss is nan |")
    assert two.endswith("| not resolved; 1 failed: the loss is nan |")
    assert one.endswith("| the reference |")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("failing", [(), ("4",), ("1", "2", None)])
@pytest.mark.parametrize(
    "found",
    [
        sweep.grid(["timesteps=1,2,4"]),
        sweep.grid(["timesteps=1,2,4", "surrogate=arctan,bell"]),
        sweep.grid(["timesteps=1,2,4", "surrogate=arctan,bell", "learning_rate=0.1,0.2"]),
        sweep.draws(
            ["timesteps=1|2|4", "learning_rate=log:0.01:0.3", "weight_decay=0.0:1e-3"], 9, 0
        ),
    ],
    ids=["one", "two", "three", "draws"],
)
def test_every_sweep_has_a_picture_and_lines_whatever_failed(found, failing, tmp_path):
    runs = made(found.settings, lambda k, s: "nan" if k.get("timesteps") in failing else 0.5, 1)
    sweep_table.draw(runs, found.axes, tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").stat().st_size > 10_000
    assert len(sweep_table.lines(runs)) == len(found.settings) + 1


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.01, 0.3, [0.01, 0.03, 0.1, 0.3]),
        (1e-6, 1.0, [1e-6, 1e-4, 1e-2, 1.0]),
        (16, 256, [20, 50, 100, 200]),
        (0.0895, 0.1105, [0.0943, 0.0994, 0.105]),
    ],
)
def test_ticks_of_a_log_axis_are_few_and_round(low, high, ticks):
    assert figures.log_ticks(low, high) == pytest.approx(ticks)


def command(workdir, *words):
    line = [sys.executable, "-m", "ablations.key", "--config", RECIPE, "--workdir", workdir, *words]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_a_grid_is_trained_compared_and_goes_on(tmp_path):
    words = ("--grid", "learning_rate=0.05,0.1", "--seeds", "1", "--config.model=tiny",
             "--config.epochs=1", "--config.timesteps=1")  # fmt: skip
    code, out, said = command(tmp_path, *words)
    assert code == 0 and "2 settings x 1 seed" in out, out + said
    runs = json.loads((tmp_path / "results.json").read_text())
    assert [run["name"] for run in runs["runs"]] == ["learning_rate=0.05", "learning_rate=0.1"]
    text = (tmp_path / "comparison.md").read_text()
    assert text == "\n".join(sweep_table.page(runs)) + "\n" and "not enough seeds" in text
    (row,) = json.loads((tmp_path / "comparison.json").read_text())
    assert row["name"] == "learning_rate=0.1" and row["seeds"] == 1
    assert (tmp_path / "sweep.png").exists()
    code, out, said = command(tmp_path, *words)
    assert code == 0 and "2 of them finished" in out, out + said
