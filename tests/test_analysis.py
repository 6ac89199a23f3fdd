"""Figures: real pictures of the expected size, clear errors where there is nothing to draw."""

import json

import numpy as np
import pytest
from PIL import Image

from dalif_jax import analysis, watching
from dalif_jax.inside import Inside
from dalif_jax.runlog import LogError


def write_run(folder, layers=20, per_channel=False):
    records = []
    for epoch in range(1, 6):
        records.append(
            {"kind": "train", "step": epoch, "epoch": epoch, "loss": 2 / epoch,
             "accuracy": 1 - 0.5 / epoch, "learning_rate": 0.1}
        )  # fmt: skip
        rows = {}
        for i in range(layers):
            alpha = 0.76 + 0.01 * epoch * i / layers
            alpha = [alpha, alpha] if per_channel else alpha
            rows[f"stage{i}/neuron0"] = {"alpha": alpha, "beta": 0.7, "firing_rate": 0.1}
        records.append(
            {"kind": "eval", "step": epoch, "epoch": epoch, "split": "test", "loss": 2 / epoch,
             "accuracy": 1 - 0.6 / epoch, "layers": rows}
        )  # fmt: skip
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))


@pytest.mark.parametrize(("layers", "per_channel"), [(3, True), (20, False)])
def test_draws_pictures_with_something_on_them(tmp_path, layers, per_channel):
    write_run(tmp_path, layers, per_channel)
    paths = analysis.draw_all(tmp_path)
    assert [p.name for p in paths] == ["curves.png", "decays.png", "firing_rates.png"]
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("L"))
        assert pixels.shape[0] == {"firing_rates.png": 630}.get(path.name, 540)
        # White paper, some ink, and ink in the right half too.
        assert (pixels == 255).mean() > 0.5
        assert (pixels < 200).mean() > 0.005 and (pixels[:, pixels.shape[1] // 2 :] < 200).any()


def test_a_run_without_evaluations_still_has_curves(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        '{"kind": "train", "step": 1, "epoch": 1, "loss": 1, "accuracy": 0.5, '
        '"learning_rate": 0.1}\n'
    )
    assert [p.name for p in analysis.draw_all(tmp_path)] == ["curves.png"]


def test_nothing_to_draw_is_said(tmp_path):
    with pytest.raises(LogError, match=r"metrics.jsonl does not exist"):
        analysis.draw_all(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(LogError, match="no records yet"):
        analysis.draw_all(tmp_path)


def ink(path, color):
    """How many pixels are about this colour."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(pixels - rgb).max(-1) < 50).sum())


def test_membranes_show_resets_where_the_neuron_fired(tmp_path):
    h = np.zeros((6, 2, 2, 4))
    h[:] = 0.4
    fired = np.zeros(h.shape, bool)
    silent = Inside(np.zeros((6, 3)), {"a": fired}, {"a": h}, {"a": np.array(1.0)})
    watching.membranes(silent, tmp_path / "silent.png")
    fired = fired.copy()
    fired[2::3] = True
    h = np.where(fired, 1.2, h)
    busy = Inside(np.zeros((6, 3)), {"a": fired}, {"a": h}, {"a": np.full(4, 1.0)})
    watching.membranes(busy, tmp_path / "busy.png")
    # The spikes' colour is on the second picture alone; membranes and threshold are on both.
    assert ink(tmp_path / "silent.png", analysis.ORANGE) == 0
    assert ink(tmp_path / "busy.png", analysis.ORANGE) > 100
    for name in ("silent", "busy"):
        assert ink(tmp_path / f"{name}.png", analysis.GREEN) > 100
        assert ink(tmp_path / f"{name}.png", analysis.BLUE) > 100


def test_the_energy_bars_have_the_heights_of_their_operations(tmp_path):
    row = {"kind": "conv", "paper_macs": 0, "exact_macs": 0, "paper_acs": 0, "exact_acs": 0}
    rows = [
        row | {"name": "macs", "paper_macs": 1e6, "exact_macs": 1e6},
        row | {"name": "acs", "paper_acs": 1e6, "exact_acs": 1e6},
    ]
    energy = {"mac_pj": 4.6, "ac_pj": 0.9, "paper": {"energy_uj": 5.5}, "exact": {"energy_uj": 5.5}}
    path = analysis.energy_layers({"operations": rows, "energy": energy}, tmp_path / "e.png")
    # Areas, less what grid and legend take: 4.6 to 0.9.
    assert 3.5 < ink(path, analysis.ORANGE) / ink(path, analysis.BLUE) < 5.2


def test_the_confusion_matrix_is_dark_where_answers_are(tmp_path):
    def darkness(table):
        analysis.confusion_matrix({"confusion": table}, tmp_path / "c.png")
        pixels = np.asarray(Image.open(tmp_path / "c.png").convert("L"))
        return (pixels[:, : pixels.shape[1] * 3 // 4] < 80).mean()

    assert darkness([[9, 0], [0, 9]]) > 0.2 > darkness([[9, 8], [8, 9]])
