"""A search gives every system the same trials and takes its best, on made records."""

from statistics import correlation

from ablations import results, search, systems


def record(name, accuracy, held_out=None, seed=0):
    if accuracy is None:
        return {"name": name, "seed": seed, "failed": "the loss is nan"}
    others = {} if held_out is None else {"unseen_writers": held_out}
    return {"name": name, "seed": seed, "accuracy": accuracy, "other_splits": others}


def test_every_system_has_as_many_trials_and_the_first_is_as_it_stands():
    found = search.settings(("lif", "mpbn", "diet", "neuron-relu"), 0.1)
    assert len(found) == 4 * search.TRIALS
    first = {}
    for name, keys in found.items():
        first.setdefault(name.split(",")[0], (name, keys))
    for system, (name, keys) in first.items():
        stands = systems.settings()[system]
        assert keys == {"learning_rate": 0.1, "surrogate": "rectangle"} | stands or (
            system == "neuron-relu" and "surrogate" in keys
        ), name
        assert name.startswith(f"{system}, lr x 1")
    rates = {keys["learning_rate"] for name, keys in found.items() if name.startswith("lif")}
    assert rates == {0.0333, 0.1, 0.3}
    own = found["diet, lr x 3, bell"]
    assert own["learning_rate"] == 0.015 and own["optimizer"] == "amsgrad"
    tried = {name.split(", ")[2] for name in found if name.startswith("mpbn")}
    assert tried == {"tanh", "rectangle", "triangle"}


def test_without_a_surrogate_to_choose_the_rates_are_as_many():
    relu = search.settings(("neuron-relu",), 0.1)
    assert len(relu) == search.TRIALS
    assert len({keys["learning_rate"] for keys in relu.values()}) == search.TRIALS
    assert {keys["surrogate"] for keys in relu.values()} == {"rectangle"}


def test_the_best_trial_is_of_the_mean_over_seeds_and_of_trials_that_ended():
    tet, lif, diet = search.best(RECORDS)
    assert tet == search.Best("tet", "lr x 1, arctan", 0.95, None, 1, 0.95)
    assert lif[:2] == ("lif", "lr x 3, arctan") and lif.trials == 2
    assert round(lif.accuracy, 9) == 0.86 and round(lif.held_out, 9) == 0.65
    assert round(lif.first, 9) == 0.85
    assert diet == search.Best("diet", "", 0.0, None, 0, None)
    assert search.page(RECORDS)[2:] == [
        "| `tet` | 95.00 | lr x 1, arctan | 95.00 |  | 1 |",
        "| `lif` | 85.00 | lr x 3, arctan | 86.00 | 65.00 | 2 |",
        "| `diet` | failed | every trial failed |  |  | 0 |",
    ]


def test_its_picture_is_drawn_where_trials_failed_too(tmp_path):
    search.draw(RECORDS, tmp_path / "search.png")
    assert (tmp_path / "search.png").stat().st_size > 5000


def test_what_the_page_says_of_the_committed_search_holds():
    runs = results.load()["ablations/search_digits_dvs"]["runs"]
    rows = search.best(runs)
    first, best = zip(*((row.first, row.accuracy) for row in rows), strict=True)
    gains = [after - before for before, after in zip(first, best, strict=True)]
    assert min(gains) > 0 and correlation(first, gains) < -0.7
    assert max(best) - min(best) < (max(first) - min(first)) / 3
    assert sum(row.trial.split(", ")[0] == "lr x 3" for row in rows) > 0.7 * len(rows)
    lowest = {"bdett", "asa", "diet", "ltmd", "pfa"}
    others = [row for row in rows if row.name not in lowest]
    below = min(row.held_out for row in others), min(row.accuracy for row in others)
    for row in rows:
        if row.name in lowest:
            assert row.held_out < below[0] and row.accuracy <= below[1]
    upper, split = zip(*((row.accuracy, row.held_out) for row in others), strict=True)
    assert abs(correlation(upper, split)) < 0.3
    whole = {name for name in systems.settings() if systems.kind_of(name) == "system"}
    assert {row.name for row in rows} == whole | {"lif"}
    systems_of = list(dict.fromkeys(run["name"].split(", ")[0] for run in runs))
    elsewhere = {run["name"].split(", ")[0] for run in runs if "machine" in run}
    assert elsewhere == set(systems_of[systems_of.index("diet") :])


RECORDS = [
    record("lif, lr x 1, rectangle", 0.9, 0.7), record("lif, lr x 1, rectangle", 0.8, 0.6, 1),
    record("lif, lr x 3, rectangle", 0.99, 0.9), record("lif, lr x 3, rectangle", None, seed=1),
    record("lif, lr x 3, arctan", 0.87, 0.6), record("lif, lr x 3, arctan", 0.85, 0.7, 1),
    record("tet, lr x 1, arctan", 0.95), record("diet, lr x 3, arctan", None),
]  # fmt: skip
