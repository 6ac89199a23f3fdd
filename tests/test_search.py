"""A search gives every system the same trials and takes its best, on made records."""

from ablations import search, systems


def record(name, accuracy, held_out=None, seed=0):
    if accuracy is None:
        return {"name": name, "seed": seed, "failed": "the loss is nan"}
    others = {} if held_out is None else {"unseen_writers": held_out}
    return {"name": name, "seed": seed, "accuracy": accuracy, "other_splits": others}


def test_every_system_has_the_same_trials_around_its_own_rate():
    found = search.settings(("lif", "diet"), 0.1)
    assert len(found) == 2 * 9
    rates = {keys["learning_rate"] for name, keys in found.items() if name.startswith("lif")}
    assert rates == {0.0333, 0.1, 0.3}
    own = found["diet, lr x 3, arctan"]
    assert own["learning_rate"] == 0.015 and own["surrogate"] == "arctan"
    assert own["optimizer"] == "amsgrad"
    assert found["lif, lr x 1, rectangle"] == systems.settings()["lif"] | {"learning_rate": 0.1}


def test_the_best_trial_is_of_the_mean_over_seeds_and_of_trials_that_ended():
    records = [
        record("lif, lr x 1, rectangle", 0.9, 0.7), record("lif, lr x 1, rectangle", 0.8, 0.6, 1),
        record("lif, lr x 3, rectangle", 0.99, 0.9), record("lif, lr x 3, rectangle", None, seed=1),
        record("lif, lr x 3, arctan", 0.84, 0.9), record("lif, lr x 3, arctan", 0.84, 0.9, 1),
        record("tet, lr x 1, arctan", 0.95), record("diet, lr x 3, arctan", None),
    ]  # fmt: skip
    tet, lif, diet = search.best(records)
    assert tet == search.Best("tet", "lr x 1, arctan", 0.95, None, 1)
    assert lif[:2] == ("lif", "lr x 1, rectangle") and lif.trials == 2
    assert round(lif.accuracy, 9) == 0.85 and round(lif.held_out, 9) == 0.65
    assert diet == search.Best("diet", "", 0.0, None, 0)
    assert search.page(records)[2:] == [
        "| `tet` | lr x 1, arctan | 95.00 |  | 1 |",
        "| `lif` | lr x 1, rectangle | 85.00 | 65.00 | 2 |",
        "| `diet` | every trial failed |  |  | 0 |",
    ]
