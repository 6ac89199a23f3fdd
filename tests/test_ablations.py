"""Ablations: intervals against hand figures, verdicts on made data, a series that goes on."""

import json

import numpy as np
import pytest

from ablations import fig1a, fig2, fig3, key
from ablations.records import record
from ablations.statistics import friedman, interval, paired
from dalif_jax.settings import config as configs
from dalif_jax.settings.keys import get_config as base_config


def test_the_interval_is_students():
    # Mean 2, standard deviation 1, n = 3: t = 4.3027 of two degrees of freedom.
    found = interval([1, 2, 3])
    assert found.mean == 2 and found.verdict == "not resolved"
    np.testing.assert_allclose([found.low, found.high], 2 + 4.302653 / 3**0.5 * np.array([-1, 1]),
                               rtol=1e-6)  # fmt: skip
    assert interval([1.0, 1.1, 0.9]).verdict == "higher"
    assert interval([-1.0, -1.1, -0.9]).verdict == "lower"


@pytest.mark.filterwarnings("error")  # scipy's, about what it is given
@pytest.mark.parametrize(
    ("values", "verdict", "text"),
    [
        ([], "not enough seeds", "no runs to compare"),
        ([np.nan], "not enough seeds", "no runs to compare"),
        ([0.05], "not enough seeds", "+5.00 points"),
        ([0.0, 0.0], "identical", "+0.00 points"),
        ([0.05, 0.05], "not enough spread", "+5.00 points"),
        ([0.95 - 0.93, 0.9 - 0.88, 0.7 - 0.68], "not enough spread", "+2.00 points"),
        ([0.05, np.nan], "not enough seeds", "+5.00 points"),
        # Two seeds: t = 12.7, half of their distance is the standard error.
        ([0.05, 0.06], "not resolved", "+5.50 points, 95 % interval -0.85 to +11.85"),
        ([0.05, 0.0501], "higher", "+5.00 points, 95 % interval +4.94 to +5.07"),
    ],
)
def test_thin_values_give_no_interval(values, verdict, text):
    found = interval(values)
    assert found.verdict == verdict and found.text() == text
    assert json.loads(json.dumps(found._asdict(), allow_nan=False))["seeds"] == found.seeds


def test_pairs_are_of_one_seed():
    rows = [("a", 0, 0.9), ("a", 1, 0.501), ("b", 1, 0.4), ("b", 0, 0.8), ("b", 2, 0.0)]
    records = [{"name": n, "seed": s, "accuracy": a} for n, s, a in rows]
    found = paired(records, "a", "b")
    np.testing.assert_allclose(found.mean, 0.1005)
    assert found.verdict == "higher"
    assert paired(records, "a", "c").verdict == "not enough seeds"


def test_arms_are_compared_at_every_number_of_steps():
    records = [
        {"name": f"T{t}-{arm}", "seed": seed,
         "accuracy": 0.9 + 0.01 * seed + (0.02 + 0.001 * seed) * (arm == "both") * (t > 1)}
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
    assert found["verdicts"] == {"alpha": "matters", "beta": "not resolved"}


NOISE = np.random.default_rng(0).normal(0, 0.001, (4, 4, 3))
TREND = 0.5 + 0.1 * np.arange(4)[:, None, None]


def without(values, *places):
    values = values.copy()
    for place in places:
        values[place] = np.nan
    return values


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("values", "alpha", "beta"),
    [
        # One seed: cells share its start and batches.
        ((TREND + NOISE)[..., :1], "not enough seeds", "not enough seeds"),
        # T = 1: four betas are one run, so three seeds are three blocks and not twelve.
        (np.repeat((TREND + NOISE)[:, :1], 4, 1), "matters", "changes nothing"),
        (np.repeat((TREND + NOISE)[:, :1, :2], 4, 1), "not enough different runs",
         "changes nothing"),
        # Every run alike.
        (np.full((4, 4, 3), 0.5), "changes nothing", "changes nothing"),
        (np.full((4, 4, 1), 0.5), "changes nothing", "changes nothing"),
        # A part of the grid.
        ((TREND + NOISE)[:2], "not enough to compare: the test needs three", "not resolved"),
        # Runs missing.
        (without(TREND + NOISE, (0, 0, 0)), "matters", "not resolved"),
        (without(TREND + NOISE, np.s_[0]), "not enough different runs", "not resolved"),
        (np.full((4, 4, 3), np.nan), "not enough seeds", "not enough seeds"),
    ],
)  # fmt: skip
def test_thin_grids_are_said_to_be_thin(values, alpha, beta, tmp_path):
    found = fig1a.test(values)
    assert found["verdicts"] == {"alpha": alpha, "beta": beta}
    json.dumps(found, allow_nan=False)
    text = "\n".join(fig1a.lines(found))
    assert "nan" not in text and "inf" not in text
    if np.isfinite(values).any():
        fig1a.draw(values, tmp_path / "grid.png")


def test_equal_blocks_count_once():
    block = [1.0, 2.0, 3.0]
    assert friedman(np.array([block] * 6).T).verdict == "not enough different runs"
    blocks = np.array([block]) + 0.01 * np.arange(6)[:, None]
    # Friedman's statistic of six blocks in one order is 12, of two degrees of freedom: exp(-6).
    assert friedman(blocks.T).p == pytest.approx(np.exp(-6))


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


START = float(np.tanh(np.float32(1)))


def decays(*ends):
    """Records of seeds, each with its layers' ends of alpha; beta stays where it starts."""
    return [
        {"decays": {f"layer{i}": {"alpha": [START, end], "beta": [START, START]}
                    for i, end in enumerate(row)}}
        for row in ends
    ]  # fmt: skip


ROW = np.array([0.5, 0.6, 0.8, 0.9])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("ends", "verdicts"),
    [
        ([ROW], ["not enough seeds"] * 3),
        ([ROW, ROW], ["not enough spread"] * 3),
        ([ROW] * 5, ["not enough spread"] * 3),
        ([ROW, ROW + 1e-3], ["supported", "not enough different runs", "supported"]),
        ([ROW[:1], ROW[:1] + 1e-3, ROW[:1] + 3e-3],
         ["supported", "not enough to compare: the test needs three", "not enough layers"]),
        ([ROW[:2], ROW[:2] + 1e-3, ROW[:2] + 3e-3],
         ["supported", "not enough to compare: the test needs three", "not enough layers"]),
        # Moved by less than a float32 can tell: not moved.
        ([np.full(4, START + 1e-8)] * 3, ["not moved", "not distinct", "no order: all alike"]),
    ],
)  # fmt: skip
def test_claims_of_thin_decays_are_said_to_be_thin(ends, verdicts, tmp_path):
    start = fig3.start("tanh", 1.0)
    records = [record | {"curve": [[1, 0.5], [2, 0.6]]} for record in decays(*ends)]
    found = fig3.claims(records, start)
    assert [
        found["alpha"][claim]["verdict"] for claim in ("moved", "distinct", "depth")
    ] == verdicts
    # Beta has not moved at all: no claim about it is supported.
    still = [found["beta"][claim]["verdict"] for claim in ("moved", "distinct", "depth")]
    few = len(ends) < 2
    assert still[0] == ("not enough seeds" if few else "not moved"), still
    assert "supported" not in still and "contradicted" not in still
    json.dumps(found, allow_nan=False)
    assert not any(word in "".join(fig3.lines(found)) for word in ("nan", "inf "))
    fig3.draw(records, start, tmp_path / "fig3.png")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seeds", [1, 2])
def test_thin_series_are_drawn(seeds, tmp_path):
    records = [
        {"name": name, "seed": seed, "accuracy": 0.5 + 0.1 * seed}
        for name in ("T1-baseline", "T1-both", "k=a", "k=b")
        for seed in range(seeds)
    ]
    fig2.draw(records, tmp_path / "fig2.png", ("baseline", "both"), (1,))
    rows = key.compare(records, ["k=a", "k=b"])
    assert ("not enough seeds" if seeds == 1 else "identical") in key.line(rows[0])
    json.dumps(rows + fig2.compare(records), allow_nan=False)
    of_key = [r for r in records if r["name"].startswith("k=")]
    key.draw(of_key, rows, ["k=a", "k=b"], tmp_path / "key.png")


def test_a_decay_keeps_the_digits_it_is_compared_in(tmp_path):
    """Rounded, every seed would end a hair beside the start, and all alike: surely moved."""
    config = base_config()
    (tmp_path / "config.json").write_text(json.dumps(configs.to_json(config)))
    layer = {"alpha": [START, START], "beta": START, "firing_rate": 0.1}
    energy = {"energy_uj": 1.0}
    (tmp_path / "eval.json").write_text(json.dumps({
        "parameters": 1, "examples": 1, "accuracy": 0.5, "other_splits": {}, "layers": {"a": layer},
        "energy": {"paper": energy, "exact": energy},
    }))  # fmt: skip
    lines = [
        {"kind": "train", "step": 1, "images_per_second": None},
        {"kind": "eval", "step": 1, "epoch": 1, "accuracy": 0.5, "split": "test", "seconds": 1.0,
         "layers": {"a": layer}},
    ]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    records = [record(tmp_path)] * 3
    found = fig3.claims(records, fig3.start("tanh", 1.0))
    assert {found[decay]["moved"]["verdict"] for decay in ("alpha", "beta")} == {"not moved"}
