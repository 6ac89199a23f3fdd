"""Figures: real pictures of the expected size, clear errors where there is nothing to draw."""

import json
import re
import subprocess

import numpy as np
import pytest
from commands import train
from PIL import Image

from dalif_jax.analysis import figures, watching
from dalif_jax.data import classes, sets
from dalif_jax.runs import report
from dalif_jax.runs.report import draw_all
from dalif_jax.runs.runlog import LogError
from dalif_jax.training.inside import Inside


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
    paths = draw_all(tmp_path)
    assert [p.name for p in paths] == ["curves.png", "numbers.png", "firing_rates.png"]
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
    assert [p.name for p in draw_all(tmp_path)] == ["curves.png"]


def test_of_equal_epochs_the_first_is_the_best(tmp_path, monkeypatch):
    records = [
        {"kind": "eval", "step": e, "epoch": e, "split": "test", "loss": 1.0, "accuracy": a}
        for e, a in enumerate((0.5, 0.9, 0.7, 0.9), 1)
    ]
    figure, axes = figures.panels(3)
    monkeypatch.setattr(figures, "panels", lambda *_: (figure, axes))
    figures.learning_curves(records, tmp_path / "c.png")
    assert "best 90.00% (epoch 2, chosen on test)" in axes[1].get_title()


def test_firing_rates_are_of_the_checkpoint_named(tmp_path):
    write_run(tmp_path, 3)
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for record in records:
        for layer in record.get("layers", {}).values():
            layer["firing_rate"] = 0.1 * record["step"]
    tall = []
    for step in (2, None):
        path = figures.firing_rates(records, tmp_path / "r.png", step, "best checkpoint, step 2")
        # The bars reach from the axis to 20 of 20, or to 50 of 50; the first epoch's mark is at 10.
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
        orange = np.argwhere(np.abs(pixels - [213, 94, 0]).max(-1) < 50)[:, 0]
        blue = np.argwhere(np.abs(pixels - [0, 114, 178]).max(-1) < 50)[:, 0]
        tall.append((blue.max() - np.median(orange)) / (blue.max() - blue.min()))
    assert tall[0] > 1.5 * tall[1], tall


def test_nothing_to_draw_is_said(tmp_path):
    with pytest.raises(LogError, match=r"metrics.jsonl does not exist"):
        draw_all(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(LogError, match="no records yet"):
        draw_all(tmp_path)


def ink(path, color):
    """How many pixels are about this colour."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return int((np.abs(pixels - rgb).max(-1) < 50).sum())


def test_membranes_show_resets_where_the_neuron_fired(tmp_path):
    h = np.zeros((6, 2, 2, 4))
    h[:] = 0.4
    fired = np.zeros(h.shape, bool)
    silent = Inside(np.zeros((6, 3)), {"a": fired}, {"a": h}, {"a": h * 0 + 1.0}, True)
    watching.membranes(silent, tmp_path / "silent.png")
    fired = fired.copy()
    fired[2::3] = True
    h = np.where(fired, 1.2, h)
    busy = Inside(np.zeros((6, 3)), {"a": fired}, {"a": h}, {"a": h * 0 + 1.0}, True)
    watching.membranes(busy, tmp_path / "busy.png")
    # The spikes' colour is on the second picture alone; membranes and threshold are on both.
    assert ink(tmp_path / "silent.png", figures.ORANGE) == 0
    assert ink(tmp_path / "busy.png", figures.ORANGE) > 100
    for name in ("silent", "busy"):
        assert ink(tmp_path / f"{name}.png", figures.GREEN) > 100
        assert ink(tmp_path / f"{name}.png", figures.BLUE) > 100


def test_the_energy_bars_have_the_heights_of_their_operations(tmp_path):
    row = {"kind": "conv", "paper_macs": 0, "exact_macs": 0, "paper_acs": 0, "exact_acs": 0}
    rows = [
        row | {"name": "macs", "paper_macs": 1e6, "exact_macs": 1e6},
        row | {"name": "acs", "paper_acs": 1e6, "exact_acs": 1e6},
    ]
    energy = {"mac_pj": 4.6, "ac_pj": 0.9, "paper": {"energy_uj": 5.5}, "exact": {"energy_uj": 5.5}}
    path = figures.energy_layers({"operations": rows, "energy": energy}, tmp_path / "e.png")
    # Areas, less what grid and legend take: 4.6 to 0.9.
    assert 3.5 < ink(path, figures.ORANGE) / ink(path, figures.BLUE) < 5.2


def test_both_rules_of_energy_share_one_scale(tmp_path):
    row = {"kind": "conv", "name": "a", "exact_acs": 0, "paper_acs": 0}
    row |= {"paper_macs": 2e6, "exact_macs": 1e6}
    energy = {"mac_pj": 4.6, "ac_pj": 0.9, "paper": {"energy_uj": 9.2}, "exact": {"energy_uj": 4.6}}
    path = figures.energy_layers({"operations": [row], "energy": energy}, tmp_path / "e.png")
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    bars = np.abs(pixels - [213, 94, 0]).max(-1) < 50
    half = bars.shape[1] // 2
    # Twice the energy is twice the height.
    heights = [np.sort(part.sum(0))[-5] for part in (bars[:, :half], bars[:, half:])]
    assert 1.8 < heights[0] / heights[1] < 2.2


@pytest.mark.parametrize("timesteps", [1, 4, 16])
def test_a_sample_shows_as_many_spikes_as_there_are(tmp_path, timesteps):
    """Dark area over the raster's, whatever the form: rows over time or squares."""

    def darkness(share):
        fired = np.zeros((timesteps, 1, 1, 48), bool)
        fired.reshape(-1)[: round(share * fired.size)] = True
        inside = Inside(np.zeros((timesteps, 3)), {"a": fired, "b": fired}, {}, {}, True)
        path = watching.sample(np.zeros((8, 8, 1)), inside, 1, tmp_path / "s.png")
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
        below = pixels[len(pixels) // 2 :]
        return ((below[..., 2] > 120) & (below[..., 0] < 60)).mean()

    assert darkness(0.0) == 0
    assert darkness(0.5) == pytest.approx(2 * darkness(0.25), rel=0.1)


def test_polarities_and_classes_are_named(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    texts = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda f, path, **k: (
        texts.extend(t.get_text() for t in f.findobj(match=lambda a: hasattr(a, "get_text"))),
        save(f, path, **k)))  # fmt: skip
    fired = np.zeros((4, 1, 1, 48), bool)
    inside = Inside(np.eye(4, 10), {"a": fired}, {"a": fired * 1.0}, {"a": fired + 1.0}, True)
    names = classes.names("cifar10dvs")
    watching.sample(np.ones((4, 8, 8, 2)), inside, 3, tmp_path / "s.png", names, "best, step 7")
    for text in ("ON events: brighter", "OFF events: darker", "cat, right", "best, step 7"):
        assert text in texts, texts


def test_classes_have_as_many_names_as_the_sets_have_classes():
    for name, spec in sets.SPECS.items():
        assert len(classes.names(name) or range(spec.classes)) == spec.classes, name
    hundred = classes.names("cifar100")
    assert list(hundred) == sorted(set(hundred)) and classes.names("digits") is None


def test_the_confusion_matrix_is_dark_where_answers_are(tmp_path):
    def darkness(table):
        figures.confusion_matrix({"confusion": table}, tmp_path / "c.png")
        pixels = np.asarray(Image.open(tmp_path / "c.png").convert("L"))
        return (pixels[:, : pixels.shape[1] * 3 // 4] < 80).mean()

    assert darkness([[9, 0], [0, 9]]) > 0.2 > darkness([[9, 8], [8, 9]])


def test_the_commit_is_this_checkouts_or_none(tmp_path, monkeypatch):
    """Installed into an environment inside some other project, it is not that one's commit."""
    git = lambda *words: subprocess.run(  # noqa: E731
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words], cwd=tmp_path, check=True
    )
    monkeypatch.setattr(report, "__file__", str(tmp_path / "report.py"))
    assert report.commit() == ""
    (tmp_path / "report.py").write_text("")
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "theirs")
    assert report.commit() == ""
    git("add", "report.py")
    git("commit", "-q", "-m", "ours")
    assert re.fullmatch("[0-9a-f]{12}", report.commit())
    (tmp_path / "report.py").write_text("x = 1\n")
    assert re.fullmatch("[0-9a-f]{12}-changed", report.commit())


def test_a_run_of_a_neuron_without_a_membrane_is_reported_without_its_picture(tmp_path):
    code, out = train(
        tmp_path / "run", "--config.epochs=1", "--config.warmup_epochs=0", "--config.model=tiny",
        "--config.neuron=relu", "--config.timesteps=1",
    )  # fmt: skip
    assert code == 0, out
    assert "membranes_0.png" not in out and "sample_0.png" in out
    assert "membranes of a few neurons" not in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize("name", ["$5_to_$10", "$_and_^$", "\udcff", "a\nb\0", "x" * 3000])
def test_confusion_of_odd_class_names_is_drawn(tmp_path, name):
    table = {"confusion": [[3, 1], [0, 4]]}
    path = figures.confusion_matrix(table, tmp_path / "x.png", (name, "plain"), note=name)
    assert np.asarray(Image.open(path).convert("L")).min() < 200
    report.table((name,), [(name,)]).encode()


def test_logs_of_other_forms_are_named(tmp_path):
    write_run(tmp_path)
    log = tmp_path / "metrics.jsonl"
    record = json.loads(log.read_text().splitlines()[1])
    for key, value in (("accuracy", None), ("epoch", "x"), ("layers", [1]), ("layers", {"a": 1})):
        log.write_text(json.dumps(record | {key: value}) + "\n")
        with pytest.raises(LogError, match=r"metrics\.jsonl"):
            draw_all(tmp_path)
    del record["layers"]
    log.write_text(json.dumps(record) + "\n")
    with pytest.raises(LogError, match="no layers"):
        draw_all(tmp_path)
