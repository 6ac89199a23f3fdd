"""The table and the figure of systems under one recipe, on made series."""

import json
from statistics import fmean

import pytest

from ablations import host_figure, host_table
from ablations.ranking import rank
from ablations.systems import settings


def run(name, seed, accuracy, **keys):
    return {
        "name": name, "seed": seed, "accuracy": accuracy, "commit": "abc", "seconds": 60.0,
        "command": ["train.py", "--config", "configs/digits.py", "--config.epochs=20",
                    f"--config.neuron={name}", f"--config.seed={seed}"],
        "model": "mini", "dataset": "digits", "timesteps": 4, "epochs": 20, "examples": 287,
        "images_per_second": 640.0, "batch_size": 64, "peak_mb": 500.0, "parameters": 77_000,
        "energy_uj": {"paper": 2.0, "exact": 1.0}, "firing_rates": {"a": 0.1, "b": 0.3},
        **keys,
    }  # fmt: skip


@pytest.fixture
def series():
    runs = []
    for seed, luck in enumerate((0.90, 0.94, 0.92, 0.95)):
        runs += [
            run("lif", seed, luck),
            run("norm-tdbn", seed, luck + 0.02 + 2e-4 * seed, energy_uj={"paper": 3, "exact": 4}),
            run("neuron-klif", seed, luck - 0.2 - 2e-4 * seed),
            {"name": "diet", "seed": seed, "command": run("diet", seed, 0)["command"],
             "failed": "the loss is nan | at step 3"},
        ]  # fmt: skip
    return {"cpu": "some CPU", "cores": 2, "jax": "0.12.0", "runs": runs}


def test_a_hosts_table_is_ranked_and_says_what_failed(series):
    text = "\n".join(host_table.host("digits", series))
    assert (
        "`python -m ablations.systems --config configs/digits.py --workdir runs/systems --seeds 4 "
        "--systems lif,norm-tdbn,neuron-klif,diet --config.epochs=20`: 16 runs of 4 of the "
        f"{len(settings())} settings, mini on digits, T = 4, 20 epochs, 287 test examples (one is "
        "0.35 %)" in text
    )
    assert "1 settings with runs that failed" in text
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == ["norm-tdbn", "lif", "neuron-klif", "diet"]
    assert "| +2.03 (+1.99 to +2.07) |" in rows[0] and "| higher | 20.0% | 3 / 4 | 100 |" in rows[0]
    assert "| baseline |" in rows[1] and "| lower |" in rows[2]
    assert "failed: the loss is nan \\| at step 3" in rows[3]


@pytest.mark.parametrize(
    ("other", "cells"),
    [({"commit": "def"}, ["200*", "900*"]), ({"machine": {"cpu": "x", "cores": 2}}, ["", ""])],
)
def test_times_are_of_one_machine_and_of_other_commits_marked(series, other, cells):
    said = "Milliseconds and peaks are of one machine; * marks those of other commits."
    assert said not in "\n".join(host_table.host("digits", series))
    slower = {"images_per_second": 320.0, "peak_mb": 900.0} | other
    for one in series["runs"]:
        if one["name"] == "neuron-klif" or (one["name"], one["seed"]) == ("lif", 0):
            one.update(slower)
    lines = host_table.host("digits", series)
    times = {line.split("`")[1]: line.split(" | ")[8:10] for line in lines if line[:3] == "| `"}
    assert said in "\n".join(lines)
    assert times["lif"] == times["norm-tdbn"] == ["100", "500"]
    assert times["neuron-klif"] == cells


def test_a_hosts_command_names_settings_where_they_are_a_part(series):
    part = {**series, "runs": [run(name, 0, 0.9) for name in ("lif", "plif")]}
    assert "--seeds 1 --systems lif,plif --config.epochs=20" in host_table.command(part)
    for of in part["runs"]:
        of["command"] = [*of["command"][:-1], "--config.norm=batch", "--config.seed=0"]
    part["runs"][1]["name"] = "neuron-plif"
    told = host_table.command(part)
    assert told.endswith("--seeds 1 --systems lif,neuron-plif --config.epochs=20"), told
    names = [name for name in settings() if name not in ("plif", "tdbn")]
    most = {**series, "runs": [run(name, 0, 0.9) for name in names]}
    assert "--systems" not in host_table.command(most)
    assert f": {len(settings()) - 2} runs, mini" in "".join(host_table.host("digits", most))


def test_what_does_worse_is_a_sentence_with_its_interval_and_scale(series):
    (line,) = host_table.contradictions({"digits": series})
    assert line == (
        "* `neuron-klif` on digits (mini, T = 4, 20 epochs, 4 seeds): -20.03 points, 95 % interval "
        "-20.07 to -19.99."
    )


def test_what_hardly_fires_says_so_and_what_its_papers_constants_give(series):
    quiet = {"firing_rates": {"a": 0.01, "b": 0.03}}
    for seed, luck in enumerate((0.90, 0.94, 0.92, 0.95)):
        series["runs"] += [
            run("attention-ma", seed, 0.1 + luck / 1e3, **quiet), run("ma", seed, luck + 0.01)
        ]  # fmt: skip
    lines = host_table.contradictions({"digits": series})
    assert len(lines) == 2  # and neuron-klif
    assert lines[1] == (
        "* `attention-ma` on digits (mini, T = 4, 20 epochs, 4 seeds): -82.66 points, 95 % "
        "interval -86.18 to -79.13; neurons fire at 2.0%, those of `lif` at 20.0%; with its "
        "paper's constants, `ma`, +1.00 points, not enough spread."
    )


def test_ranks_over_hosts_are_of_what_ran_on_all(series):
    other = {**series, "runs": [r for r in series["runs"] if r["name"] != "norm-tdbn"]}
    rows = host_table.across({"digits": series, "events": other})[2:]
    assert rows == [
        "| `lif` | 1.5 (1 to 2) | 2 (+0.00) | 1 (+0.00) |",
        "| `neuron-klif` | 2.5 (2 to 3) | 3 (-20.03) | 2 (-20.03) |",
    ]


def test_a_host_of_a_few_settings_has_a_table_and_no_part_in_the_ranks(series, monkeypatch):
    few = {**series, "runs": [r for r in series["runs"] if r["name"] == "lif"]}
    every = {"digits": series, "events": series, "few": few}
    assert list(host_table.with_most(every)) == ["digits", "events"]
    monkeypatch.setattr(host_table, "load", lambda: every)
    page = host_table.page()
    assert "### few" in page and "| setting | rank, mean (range) | digits | events |" in page


def leading(every):
    """The four settings that lead over the hosts of most settings."""
    return [row.split("`")[1] for row in host_table.across(host_table.with_most(every))[2:6]]


def test_what_the_page_says_of_real_recordings():
    every = host_table.load()
    leaders = leading(every)
    rows = {row.name: row for row in rank(every["nmnist"]["runs"], "lif")}
    assert set(rows) == {"lif", *leaders, "neuron-dalif"}
    assert all(rows[name].mean > rows["lif"].mean for name in leaders)
    assert {row.verdict for row in rows.values() if row.difference} == {"not resolved"}
    assert {
        (run["examples"], len(rows[run["name"]].values)) for run in every["nmnist"]["runs"]
    } == {(100, 3)}


def test_what_the_page_says_of_cifar10():
    every = host_table.load()
    leaders = leading(every)
    runs = every["cifar10_quick"]["runs"]
    rows = {row.name: row for row in rank(runs, "lif")}
    assert {"lif", "neuron-dalif"} < set(rows) <= {"lif", *leaders, "neuron-dalif"}
    assert all(row.mean > rows["lif"].mean for name, row in rows.items() if name in leaders)
    assert {row.verdict for row in rows.values() if row.difference} == {"not enough seeds"}
    assert {(run["timesteps"], run["seed"]) for run in runs} == {(2, 0)}


def test_what_the_readme_says_of_a_cpu_without_bfloat16():
    """Images/s at T = 2, of what ran on one processor against one that multiplies it."""
    path = host_table.DOCS / "ablations" / "timesteps_cifar10_quick.json"
    ended = json.loads(path.read_text())["runs"]
    fast = fmean(run["images_per_second"] for run in ended if run["name"] == "T=2")
    runs = host_table.load()["cifar10_quick"]["runs"]
    slow = [r for r in runs if host_table.under(r) == host_table.measured(runs)]
    assert all(3 < fast / run["images_per_second"] < 4 for run in slow)
    readme = " ".join((host_table.DOCS.parent / "README.md").read_text().split())
    assert "an image takes [three to four times as long](docs/systems.md#cifar10_quick)" in readme


def test_a_papers_constants_against_the_hosts_are_paired_and_corrected(series):
    rows = [run("tet", 0, 0.9), run("loss-tet", 0, 0.8)]
    for seed, luck in enumerate((0.02, 0.05, 0.08, 0.05)):
        for name in ("plif", "klif"):  # clear of 0 alone, not among three
            rows += [run(name, seed, 0.5 + luck), run(f"neuron-{name}", seed, 0.5)]
        rows += [
            run("tdbn", seed, 0.5 + 1e-3 * seed), run("norm-tdbn", seed, 0.6),
            run("bdett", seed, 0.5), run("neuron-bdett", seed, 0.5),  # has no constants of its own
        ]  # fmt: skip
    found = host_table.own_constants({"a": series, "b": {**series, "runs": rows}})
    arctan, chance = "surrogate=arctan, detach_reset=True", "+5.00 (+1.10 to +8.90): not resolved"
    assert found == [
        ("`tdbn`", "`norm-tdbn`", "threshold=0.5", "", "-9.85 (-10.06 to -9.64): lower"),
        ("`tet`", "`loss-tet`", "beta=0.5, surrogate=triangle", "", "+10.00: not enough seeds"),
        ("`plif`", "`neuron-plif`", arctan, "", chance),
        ("`klif`", "`neuron-klif`", arctan, "", chance),
    ]


def test_a_stand_in_is_called_one_and_nothing_else_is():
    called = {name for name in settings() if name in host_table.stand_ins()}
    assert called == {"neuron-imlif", "loss-recdis", "imlif", "recdis", "gradual"}
    assert host_table.titled("imlif") == "`imlif` (stand-in)"
    assert host_table.titled("lif") == "`lif`"


def test_the_figure_is_drawn_without_what_failed(series, tmp_path):
    host_figure.draw({"digits": series, "events": series}, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 20_000
