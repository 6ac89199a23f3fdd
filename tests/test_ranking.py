"""Ranking, pairing and correction, on made records."""

import numpy as np
import pytest
from scipy import stats

from ablations import decays, found, ingredients, ranking, timesteps
from configs import cifar10_fast, cifar10_quick
from configs.base import get_config as base
from dalif_jax.settings import config as configs


def records(**settings):
    """Of {name: accuracies by seed}; a text stands for a run that failed."""
    return [
        {"name": name, "seed": seed, **({"failed": v} if isinstance(v, str) else {"accuracy": v})}
        for name, values in settings.items()
        for seed, v in enumerate(values)
    ]


def test_holm_is_the_step_down_of_the_paper():
    """Sorted, the i-th smallest of m is multiplied by m - i, and none falls below one before."""
    np.testing.assert_allclose(
        ranking.holm([0.04, 0.01, 0.03, 0.005]), [0.06, 0.03, 0.06, 0.02], atol=1e-15
    )
    np.testing.assert_allclose(ranking.holm([0.9, 0.8]), [1, 1])
    assert len(ranking.holm([])) == 0


def test_of_pure_chance_one_series_in_twenty_finds_something():
    """The chance of any false verdict among ten comparisons, uncorrected 40 %."""
    rng = np.random.default_rng(0)
    ps = stats.ttest_1samp(rng.normal(size=(2000, 10, 5)), 0, axis=2).pvalue
    assert (ps.min(1) < 0.05).mean() > 0.3
    assert np.mean([ranking.holm(row).min() < 0.05 for row in ps]) == pytest.approx(0.05, abs=0.015)


def test_pairs_are_of_the_same_seed():
    """Seeds differ by far more than the settings do: only pairs resolve it."""
    luck = np.array([0.1, 0.5, 0.3, 0.9, 0.7])
    rows = ranking.rank(
        records(lif=luck, better=luck + np.array([0.02, 0.021, 0.019, 0.02, 0.02])), baseline="lif"
    )
    assert [row.name for row in rows] == ["better", "lif"]
    assert rows[0].verdict == "higher" and rows[1].verdict == ""
    assert rows[0].difference.mean == pytest.approx(0.02)
    expected = stats.ttest_rel(rows[0].values, rows[1].values).pvalue
    assert rows[0].p == pytest.approx(expected) == rows[0].corrected


def test_a_difference_may_fall_to_the_number_of_comparisons():
    luck = np.array([0.5, 0.6, 0.55, 0.52])
    one = luck + np.array([0.010, 0.014, 0.011, 0.004])
    alone = ranking.rank(records(lif=luck, one=one), "lif")
    rng = np.random.default_rng(1)
    others = {f"chance{i}": luck + rng.normal(0, 0.05, 4) for i in range(20)}
    among = {row.name: row for row in ranking.rank(records(lif=luck, one=one, **others), "lif")}
    assert alone[0].verdict == "higher"
    assert among["one"].p == alone[0].p and among["one"].verdict == "not resolved"


def test_what_failed_is_a_row_with_its_reason():
    rows = ranking.rank(
        records(
            lif=[0.5, 0.6, 0.4], broken=["no such surrogate"] * 3, half=[0.1, "loss is nan", 0.2]
        ),
        "lif",
    )
    assert [row.name for row in rows] == ["lif", "half", "broken"]
    assert rows[2].verdict == "failed" and rows[2].failed == ("no such surrogate",) * 3
    # Over the seeds 0 and 2, which both have.
    assert rows[1].failed == ("loss is nan",) and rows[1].difference.seeds == 2
    assert rows[1].difference.mean == pytest.approx(-0.3)


def test_the_same_accuracies_are_identical_and_one_seed_says_nothing():
    rows = {r.name: r for r in ranking.rank(records(lif=[0.5, 0.6], same=[0.5, 0.6]), "lif")}
    assert rows["same"].verdict == "identical" and rows["same"].corrected is None
    rows = {r.name: r for r in ranking.rank(records(lif=[0.5], other=[0.6]), "lif")}
    assert rows["other"].verdict == "not enough seeds"


def test_without_a_baseline_there_is_nothing_to_compare_with():
    with pytest.raises(ValueError, match="no run of the baseline 'lif'; there are: tet"):
        ranking.rank(records(tet=[0.5]), "lif")


def test_a_recipe_is_left_without_what_it_has_and_still_runs():
    config = base()
    config.update({"optimizer": "muon", "nesterov": True, "augment": ("flip",)})
    found = ingredients.settings(config)
    assert list(found) == ["recipe", "no muon", "no Nesterov", "no flip", "no learned gain"]
    for keys in found.values():
        one = config.copy_and_resolve_references()
        one.update(keys)
        configs.validate(one)
    config.augment = ("crop", "alternate_flip", "cutout")
    found = ingredients.settings(config)
    assert found["no alternating flips"] == {"augment": ("crop", "cutout", "flip")}
    assert found["no crop"] == {"augment": ("alternate_flip", "cutout")}
    assert found["no cutout"] == {"augment": ("crop", "alternate_flip")}
    assert not {"no mirrored border", "no hole of the mean colour"} & set(found)
    config.crop_border, config.cutout_fill = "reflect", "mean"
    found = ingredients.settings(config)
    assert found["no mirrored border"] == {"crop_border": "black"}
    assert found["no hole of the mean colour"] == {"cutout_fill": "black"}


def test_every_difference_of_the_long_recipe_from_the_quick_one_is_an_ingredient():
    """But for its length, and for how far crops and holes go."""
    long, quick = cifar10_fast.get_config(), cifar10_quick.get_config()
    differ = {key for key in long if long[key] != quick[key]}
    found = ingredients.settings(long).values()
    named = {key.split(".")[0] for keys in found for key in keys}
    assert differ - named == {"epochs", "eval_every", "crop_padding", "cutout_size"}
    for keys in found:
        one = long.copy_and_resolve_references()
        one.update_from_flattened_dict(keys)
        configs.validate(one)
    # What both have and the defaults have not is an ingredient too.
    plain = base()
    differ = {key for key in long if long[key] != plain[key]}
    assert differ - named == {
        "model", "timesteps", "epochs", "batch_size", "eval_every", "cutout_size",
        "mirrored_views",
    }  # fmt: skip


def test_ranked_series_are_a_table_and_a_picture(tmp_path):
    runs = records(recipe=[0.5, 0.6, 0.7], less=[0.4, 0.5, 0.62], broken=["nan", "nan", "nan"])
    for run in runs:
        run.update({"seconds": 120.0, "energy_uj": {"paper": 2.0, "exact": 1.0}})
    lines = found.ranked(runs, ranking.rank(runs, "recipe"))
    assert lines[2:] == [
        "| recipe | 60.00 (50.00 to 70.00) |  | what is compared with | 2 min | 2 / 1 |",
        "| less | 50.67 (40.00 to 62.00) | -9.33 points, 95 % interval -12.20 to -6.46 | lower "
        "| 2 min | 2 / 1 |",
        "| broken |  |  | failed: nan |  |  |",
    ]
    ranking.draw(ranking.rank(runs, "recipe"), tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 5_000


def test_at_equal_time_twice_the_timesteps_are_half_the_epochs():
    found = timesteps.settings(8)
    assert [keys["timesteps"] * keys["epochs"] for keys in found.values()] == [8, 8, 8, 8]
    assert found["ReLU"]["neuron"] == "relu"
    with pytest.raises(ValueError, match="epochs=6 is no multiple of 4"):
        timesteps.settings(6)


def test_a_page_says_how_many_epochs_the_runs_of_a_series_had():
    runs = records(one=[0.5, 0.6], half=[0.5, 0.7])
    for run in runs:
        run.update({"seconds": 120.0, "energy_uj": {"paper": 2.0, "exact": 1.0}})
        run["epochs"] = 4 if run["name"] == "one" else 2
    head = {"cpu": "x", "cores": 2, "jax": "1"}
    first = found.found_by("timesteps_x", {"runs": runs, **head})[0]
    assert first.startswith("4 runs of 2 to 4 epochs, 2 seeds, jax 1, x, 2 cores")
    first = found.found_by("timesteps_x", {"runs": runs[:1], **head})[0]
    assert first.startswith("1 run of 4 epochs, 1 seed,")


def test_decays_are_compared_within_their_timesteps_and_norm(tmp_path):
    names = list(decays.settings())
    assert len(names) == 2 * 2 * 5 and names[:2] == ["T8-dalif", "T8-channels"]
    assert decays.settings()["T16-mbn-tied"] == {
        "neuron": "tied", "membrane_bn": True, "timesteps": 16
    }  # fmt: skip
    made = {name: [0.5 + 0.01 * i, 0.6 + 0.01 * i] for i, name in enumerate(names)}
    runs = records(**made)
    for run in runs:
        run.update({"seconds": 120.0, "energy_uj": {"paper": 2.0, "exact": 1.0}})
    families = decays.families(runs)
    assert [row[:2] for row in families] == [(8, False), (8, True), (16, False), (16, True)]
    assert [row.name for row in families[1][2]] == [
        f"T8-mbn-{name}" for name in ("lif", "plif", "tied", "channels", "dalif")
    ]
    assert families[1][2][0].difference.mean == pytest.approx(0.04)
    lines = found.found_by("decays_x", {"runs": [r | {"epochs": 2} for r in runs], "cpu": "x",
                                          "cores": 2, "jax": "1"})  # fmt: skip
    assert sum(line.startswith("| T8-mbn-") for line in lines) == 5
    decays.draw(runs, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 5_000


def test_runs_that_failed_stand_in_tables_and_pictures(tmp_path, monkeypatch):
    """Each reason once, whatever step it names."""
    late, early = (
        f"loss not finite at {steps}, first in the loss" for steps in ("step 9", "steps 7, 8")
    )
    made = {"T8-dalif": [0.5, 0.6], "T8-lif": [late, 0.5], "T8-tied": [early, late]}
    rows = {row.name: row for row in ranking.rank(records(**made), "T8-dalif")}
    assert rows["T8-dalif"].said("baseline") == "baseline"
    assert rows["T8-lif"].said("") == f"not enough seeds; 1 failed: {late}"
    assert rows["T8-tied"].said("") == f"failed: {early}"
    mixed = ranking.rank(records(a=[0.5] * 3, b=["refused", late, early]), "a")[1]
    assert mixed.reason == f"{late}; refused"

    runs = [
        run if "failed" in run else
        run | {"seconds": 60.0, "epochs": 2, "energy_uj": {"paper": 2.0, "exact": 1.0}}
        for run in records(**made)
    ]  # fmt: skip
    lines = found.found_by("decays_x", {"runs": runs, "cpu": "x", "cores": 2, "jax": "1"})
    assert any(line.startswith("| T8-lif | 50.00") and late in line for line in lines), lines
    assert any(line.startswith("| T8-tied |  |  | failed: ") for line in lines), lines
    words = []
    monkeypatch.setattr(decays, "written", lambda axis, place, text: words.append(text))
    decays.draw(runs, tmp_path / "x.png")
    assert words == ["no runs to compare\n2 of 2 runs failed", "1 of 2 runs failed"]
    monkeypatch.setattr(ranking, "written", lambda axis, place, text: words.append(text))
    ranking.draw(list(rows.values()), tmp_path / "y.png")
    assert words[2:] == ["every run failed"]
