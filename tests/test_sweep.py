"""Sweeps: what grids and draws ask for, what they refuse, what is made of what they gave."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ablations import checking, key, sweep, sweep_table
from configs.digits import get_config as digits
from dalif_jax.neurons import NEURONS
from dalif_jax.settings.config import ConfigError

ROOT = Path(__file__).resolve().parent.parent
RECIPE = "configs/digits.py"
RANGES = ("learning_rate=log:0.01:0.3", "weight_decay=0.0:1e-3", "timesteps=1:8",
          "batch_size=log:16:256", "surrogate=rectangle|arctan|bell")  # fmt: skip


def drawn(words=RANGES, trials=200, seed=0):
    """[{key: text}] of the draws."""
    names, keys = zip(*sweep.draws(words, trials, seed).settings.items(), strict=True)
    assert names[0] == "recipe" and keys[0] == {}
    return list(keys[1:])


def test_a_grid_is_every_combination_and_the_first_values_come_first():
    found = sweep.grid(["learning_rate=0.05,0.1", "neuron_options.tau=2,4"])
    assert list(found.settings.items()) == [
        ("learning_rate=0.05,neuron_options.tau=2",
         {"learning_rate": "0.05", "neuron_options.tau": "2"}),
        ("learning_rate=0.05,neuron_options.tau=4",
         {"learning_rate": "0.05", "neuron_options.tau": "4"}),
        ("learning_rate=0.1,neuron_options.tau=2",
         {"learning_rate": "0.1", "neuron_options.tau": "2"}),
        ("learning_rate=0.1,neuron_options.tau=4",
         {"learning_rate": "0.1", "neuron_options.tau": "4"}),
    ]  # fmt: skip


def test_draws_are_of_the_seed_the_trial_and_the_key_alone():
    assert drawn() == drawn() != drawn(seed=1)
    assert drawn(trials=20)[:10] == drawn(trials=10)
    for i, word in enumerate(RANGES):
        key = word.split("=")[0]
        without = drawn([*RANGES[:i], *RANGES[i + 1 :]])
        assert [{k: v for k, v in keys.items() if k != key} for keys in drawn()] == without
    # `printf 0/0/learning_rate | sha256sum` begins so: the same on every machine and version.
    share = int("b4734ca4e7dfcd5a", 16) / 2**64
    assert sweep.share(0, 0, "learning_rate") == pytest.approx(share, abs=2**-52)


def test_draws_lie_in_their_ranges_and_are_few_digits():
    columns = {key: [keys[key] for keys in drawn()] for key in drawn()[0]}
    rates = np.array(columns["learning_rate"], float)
    assert (rates >= 0.01).all() and (rates <= 0.3).all()
    assert all(len(text.lstrip("0.")) <= 3 for text in columns["learning_rate"])
    assert all(0 <= float(text) <= 1e-3 for text in columns["weight_decay"])
    assert set(columns["timesteps"]) == set("12345678")
    assert all(16 <= int(text) <= 256 for text in columns["batch_size"])
    assert set(columns["surrogate"]) == {"rectangle", "arctan", "bell"}


@pytest.mark.parametrize(
    ("text", "quantiles"),
    [
        # The share below x is log(x / low) / log(high / low).
        ("log:0.01:0.3", lambda x: np.log(x / 0.01) / np.log(30)),
        ("0.01:0.3", lambda x: (x - 0.01) / 0.29),
        ("-2.0:-1", lambda x: x + 2),
        ("0.9990:0.9999", lambda x: (x - 0.9990) / 0.0009),
    ],
)
def test_draws_are_spread_as_asked(text, quantiles):
    found = sweep.space("x", text)
    values = np.array([found.at(sweep.share(0, i, "x")) for i in range(4000)], float)
    assert stats.kstest(quantiles(values), "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("1:4", [0.25] * 4),
        ("log:1:3", np.log2([2, 3 / 2, 4 / 3]) / 2),  # n has log((n + 1) / n)
        ("-1:1", [1 / 3] * 3),
        ("a|b", [0.5, 0.5]),
    ],
)
def test_whole_numbers_and_choices_have_both_ends_and_their_shares(text, shares):
    found = sweep.space("x", text)
    values = [found.at(sweep.share(0, i, "x")) for i in range(4000)]
    names = sorted(set(values), key=lambda v: v if text == "a|b" else int(v))
    counts = [values.count(name) for name in names]
    assert stats.chisquare(counts, 4000 * np.array(shares)).pvalue > 0.01
    assert found.at(0.0) == names[0] and found.at(1 - 2**-53) == names[-1]


def test_a_draw_that_comes_again_is_one_setting():
    found = sweep.draws(["timesteps=1|2|4"], 50, 0)
    assert set(found.settings) == {"recipe", "timesteps=1", "timesteps=2", "timesteps=4"}
    assert found.axes == {"timesteps": "named"}


def test_rounding_stays_in_the_range():
    """The nearest of three digits to 0.123456 is 0.123, to 0.223556 0.224: both outside."""
    found = sweep.space("x", "0.123456:0.223556")
    assert found.at(0.0) == "0.123456" and found.at(1 - 2**-53) == "0.223556"
    assert found.at(0.5) == "0.174"  # 0.173506


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["learning_rate"], "--grid learning_rate: key=a,b,c expected"),
        (["learning_rate="], "key=a,b,c expected"),
        (["lerning_rate=1,2"], "unknown config key 'lerning_rate' in --grid (did you mean 'learn"),
        (["timesteps.x=1,2"], "--grid timesteps.x: timesteps is a key without parts"),
        (["found.x=1,2"], "found is a key without parts"),
        (["learning_rate=0.1"], "one value, nothing to compare; --config.learning_rate=0.1"),
        (["learning_rate=0.1,,1"], "an empty value"),
        (["learning_rate=0.1,0.2,0.1"], "0.1 is there twice"),
        (["timesteps=1,2", "timesteps=3,4"], "timesteps is there twice"),
        (["seed=1,2"], "--grid seed: every setting is trained with --seeds seeds"),
        (["model=" + "a" * 200 + ",b", "norm=" + "c" * 60 + ",d"], "no folder's name"),
    ],
)
def test_what_is_no_grid_is_refused(words, message):
    with pytest.raises(ConfigError) as refused:
        sweep.grid(words)
    assert message in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("word", "trials", "message"),
    [
        ("learning_rate=0.1", 3, "low:high, log:low:high or a|b|c expected"),
        ("learning_rate=log:0.1", 3, "low:high, log:low:high or a|b|c expected"),
        ("learning_rate=a:b", 3, "'a' is no finite number"),
        ("learning_rate=0.1:inf", 3, "'inf' is no finite number"),
        ("learning_rate=0.3:0.1", 3, "the low end 0.3 must be below the high end 0.1"),
        ("learning_rate=0.1:0.1", 3, "must be below"),
        ("learning_rate=log:0.0:0.1", 3, "both ends of a log range must be above 0"),
        ("learning_rate=log:-1:1", 3, "both ends of a log range must be above 0"),
        ("surrogate=a|", 3, "an empty value; a|b|c expected"),
        ("surrogate=a|a", 3, "a is there twice"),
        ("nothing=1:2", 3, "unknown config key 'nothing' in --draw"),
        ("learning_rate=0.1:0.2", None, "--trials: how many draws"),
        ("learning_rate=0.1:0.2", 0, "--trials=0: how many draws"),
    ],
)
def test_what_is_no_draw_is_refused(word, trials, message):
    with pytest.raises(ConfigError) as refused:
        sweep.draws([word], trials, 0)
    assert message in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"learning_rate": "0"}, "learning_rate=0.0 must be above 0"),
        ({"timesteps": "2.5"}, "timesteps=2.5: invalid literal for int"),
        ({"surrogate": "arctn"}, "arctan"),
        ({"neuron": "plif", "neuron_options.tou": "2"}, "did you mean 'tau'"),
        ({"neuron_options.tau": "2"}, "neuron=dalif has no such option"),
        ({"batch_size": "50", "accumulate": "3"}, "batch_size=50 does not divide"),
        ({"dataset": "arrays", "data_dir": "nowhere.npz"}, "nowhere.npz"),
    ],
)
def test_a_setting_is_refused_as_train_refuses_it(keys, message):
    settings = {"good": {"learning_rate": "0.05"}, "wrong": keys}
    with pytest.raises(ConfigError) as refused:
        checking.check(RECIPE, [], settings)
    assert str(refused.value).startswith("wrong: ") and message in str(refused.value)


def test_a_setting_is_what_train_makes_of_its_words():
    words = ["--config.timesteps=3", "--config.augment=crop", "--config.neuron=plif",
             "--config.neuron_options.tau=4.0", "--config.epochs=1"]  # fmt: skip
    found = checking.configured(digits(), RECIPE, words)
    assert (found.timesteps, found.augment, found.neuron) == (3, ("crop",), "plif")
    assert found.neuron_options.tau == 4.0
    assert found.warmup_epochs == digits().warmup_epochs / digits().epochs  # its share


OWN_PIECE = """
import dalif_jax as dj
from configs.digits import get_config


def step(options, params, u, x):
    return u, x


dj.add_neuron("swept", dj.Neuron(step, state=lambda options, x: dj.zeros(x)))
"""


def test_a_recipe_with_a_piece_of_its_own_is_run_once(tmp_path):
    """A second run would find the name taken, also where epochs ask for the recipe's warm-up."""
    (tmp_path / "own.py").write_text(OWN_PIECE)
    settings = {f"learning_rate={rate}": {"learning_rate": rate} for rate in (0.1, 0.2)}
    words = ["--config.neuron=swept", "--config.epochs=1"]
    try:
        checking.check(tmp_path / "own.py", words, settings)
    finally:
        del NEURONS["swept"]


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


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("failing", [(), ("4",), ("1", "2", None)])
@pytest.mark.parametrize(
    "found",
    [
        sweep.grid(["timesteps=1,2,4"]),
        sweep.grid(["timesteps=1,2,4", "surrogate=arctan,bell"]),
        sweep.grid(["timesteps=1,2,4", "surrogate=arctan,bell", "learning_rate=0.1,0.2"]),
        sweep.draws(["timesteps=1|2|4", *RANGES[:2]], 9, 0),
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
    assert sweep_table.log_ticks(low, high) == pytest.approx(ticks)


def command(workdir, *words):
    line = [sys.executable, "-m", "ablations.key", "--config", RECIPE, "--workdir", workdir, *words]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give --key and --values, or --grid"),
        (("--grid", "timesteps=1,2", "--draw", "epochs=1:2"), "not --grid and --draw together"),
        (("--grid", "timesteps=1,2", "--trials", "3"), "--trials goes with --draw, not with --gr"),
        (("--key", "timesteps"), "--values are missing"),
        (("--key", "timestep", "--values", "1,2"), "did you mean 'timesteps'"),
        (("--grid", "timesteps=1,0"), "timesteps=0: timesteps=0 must be at least 1"),
        (("--grid", "timesteps=1,2", "--config.timesteps=3"), "--config.timesteps=3 is of every"),
        (("--draw", "timesteps=1.0:2.0", "--trials", "2"), "invalid literal for int()"),
    ],
)
def test_a_wrong_word_is_one_line_before_anything_runs(
    tmp_path, words, message, monkeypatch, capsys
):
    line = ["key", "--config", RECIPE, "--workdir", str(tmp_path / "x"), *words]
    monkeypatch.setattr(sys, "argv", line)
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as ended:
        key.main()
    out, said = capsys.readouterr()
    assert ended.value.code == 2 and message in said and not (tmp_path / "x").exists(), said
    assert said.startswith("error: ") and said.count("\n") == 1 and not out


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
