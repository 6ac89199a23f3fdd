"""Figures: real pictures of the expected size, clear errors where there is nothing to draw."""

import json

import numpy as np
import pytest
from PIL import Image

from dalif_jax import analysis


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
    with pytest.raises(FileNotFoundError, match=r"metrics.jsonl"):
        analysis.draw_all(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match="no records yet"):
        analysis.draw_all(tmp_path)
