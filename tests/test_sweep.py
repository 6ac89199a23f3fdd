"""Sweeps: what grids and draws ask for, what they refuse."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ablations import checking, key, sweep
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
    found = checking.configured(digits(), words)
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
