"""Starting from the weights of a card or of another run."""

import json
import shutil

import campaign
import jax
import numpy as np
import pytest
from commands import run

from dalif_jax import training
from dalif_jax.data import sets
from dalif_jax.exchange import card
from dalif_jax.runs import init_from
from dalif_jax.runs.checkpoint import Checkpoints
from dalif_jax.runs.command import MISTAKES
from dalif_jax.settings import config
from dalif_jax.settings.keys import get_config

SMALL = ("--config.model=tiny", "--config.timesteps=2", "--config.epochs=2",
         "--config.warmup_epochs=0.0")  # fmt: skip


def train(workdir, *words):
    return run("train.py", "--config=configs/digits.py", f"--workdir={workdir}", *SMALL, *words)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A finished run, and a card of it beside it."""
    folder = tmp_path_factory.mktemp("source")
    code, out = train(folder / "run", "--config.ema_decay=0.5")
    assert code == 0, out
    code, out = run(
        "eval.py", f"--workdir={folder / 'run'}", f"--export={folder / 'card'}", "--nonir"
    )
    assert code == 0, out
    return folder


def accuracy(folder):
    return json.loads((folder / "eval.json").read_text())["accuracy"]


@pytest.mark.parametrize("kind", ["run", "card"])
def test_what_is_trained_on_starts_where_the_source_ended(tmp_path, source, kind):
    """With a learning rate of next to nothing the run measures what its source measured."""
    code, out = train(tmp_path / "run", f"--config.init_from={source / kind}",
                      "--config.learning_rate=1e-30", "--config.momentum=0.0",
                      "--config.epochs=1", "--config.warmup_epochs=0.0")  # fmt: skip
    assert code == 0, out
    where = "step 34: " if kind == "run" else "card"
    assert f"{where}" in out and "arrays taken" in out and "  new: " not in out, out
    with Checkpoints(tmp_path / "run" / "checkpoints", 1, create=False) as checkpoints:
        found = card.flat(checkpoints.weights(17))
    given = card.weights(source / "card")
    assert set(found) == set(given)
    for name, array in given.items():
        if name.startswith("params/"):
            assert found[name].tobytes() == array.tobytes(), name
    assert "init_from" in json.loads((tmp_path / "run" / "config.json").read_text())


def test_what_does_not_fit_stays_new_and_everything_is_named(tmp_path, source):
    """Decays of channels, where one of each layer is there; frames of events, which have two
    channels; a neuron of another number."""
    code, out = run(
        "train.py", "--config=configs/digits.py", "--dry_run", *SMALL, "--config.per_channel=True",
        f"--config.init_from={source / 'card'}", "--config.dtype=float64",
    )  # fmt: skip
    assert code == 0, out
    assert "float32 to float64" in out
    assert "  new: params/stem0_neuron/a (8,), () there" in out
    code, out = run(
        "train.py", "--config=configs/digits_dvs.py", "--dry_run", *SMALL, "--config.neuron=tied",
        f"--config.init_from={source / 'card'}",
    )  # fmt: skip
    assert code == 0, out
    assert "  new: params/stem0_conv/kernel (3, 3, 2, 8), (3, 3, 1, 8) there" in out
    assert "  new: params/stem0_neuron/k (), not there" in out
    assert "  not used: params/stem0_neuron/a ()" in out
    assert "params/head/kernel" not in out  # taken


@pytest.mark.slow
def test_a_set_of_other_classes_gets_a_head_of_its_own(tmp_path, source):
    """Three of the ten digits, as arrays: all is taken but the head."""
    images, labels = sets.digits()["train"]
    some = labels < 3
    np.savez(tmp_path / "arrays.npz", images=images[some], labels=labels[some])
    code, out = train(
        tmp_path / "run", "--config.dataset=arrays", f"--config.data_dir={tmp_path}",
        f"--config.init_from={source / 'card'}", "--config.batch_size=32",
    )  # fmt: skip
    assert code == 0, out
    assert "  new: params/head/kernel (16, 3), (16, 10) there" in out
    assert "  new: params/head/bias (3,), (10,) there" in out and out.count("  new: ") == 2
    assert accuracy(tmp_path / "run") > 1 / 3


def test_a_new_head_on_the_same_features(source):
    """What is taken is the source's bit for bit, what is not keeps its first values, averages start
    where the weights do."""
    settings = get_config()
    settings.update({"model": "tiny", "dataset": "digits", "ema_decay": 0.5, "augment": ()})
    program = training.make_program(settings, 1, training.make_mesh(jax.devices()[:1]))
    fresh = jax.device_get(program.init())
    weights = init_from.read(source / "run")
    assert weights.what.endswith("step 34")
    weights.arrays["params/head/kernel"] = np.zeros((16, 3), np.float32)
    shapes = training.abstract_state(program)
    taken, lines = init_from.fit(
        weights, {"params": shapes.params, "batch_stats": shapes.batch_stats}
    )
    assert "  new: params/head/kernel (16, 10), (16, 3) there" in lines
    state = jax.device_get(init_from.start(source, program.init(), taken, program.replicated))
    (source / init_from.RECORD).unlink()
    flat, before = card.flat(state.params), card.flat(fresh.params)
    for name, array in flat.items():
        there = taken.get(f"params/{name}", before[name])
        assert array.tobytes() == there.tobytes(), name
        assert array.tobytes() == card.flat(state.ema)[name].tobytes()
    assert "params/head/kernel" not in taken and state.step == 0


@pytest.mark.slow
def test_a_run_goes_on_without_its_source_and_notices_another(tmp_path, source):
    """Continued it needs the folder no more, and ends as if never stopped; begun once more, before
    its first save, with weights that changed, it is refused."""
    copy = shutil.copytree(source / "card", tmp_path / "card")
    words = (f"--config.init_from={copy}",)
    for name in ("whole", "stopped"):
        code, out = train(
            tmp_path / name,
            *words,
            "--config.epochs=1" if name == "stopped" else "--config.epochs=2",
        )
        assert code == 0, out
    shutil.rmtree(copy)
    code, out = train(tmp_path / "stopped", *words)
    assert code == 0 and "continuing" in out and "arrays taken" not in out, out
    # The schedule knows how long a run is: those of one epoch and of two are other runs.
    assert campaign.result(tmp_path / "stopped")[0] == campaign.result(tmp_path / "whole")[0] == 34

    again = shutil.copytree(source / "card", tmp_path / "card")
    shutil.rmtree(tmp_path / "stopped" / "checkpoints")
    (tmp_path / "stopped" / "metrics.jsonl").unlink()
    record = tmp_path / "stopped" / init_from.RECORD
    values = json.loads(record.read_text())
    record.write_text(json.dumps(values | {next(iter(values)): 1}))
    code, out = train(tmp_path / "stopped", f"--config.init_from={again}")
    assert code == 2 and "which changed since" in out, out


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("nowhere", "is neither a model card"),
        ("empty", "no checkpoint there can be read"),
        ("damaged", "is damaged: "),
    ],
)
def test_what_cannot_be_started_from(tmp_path, source, what, message):
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    (tmp_path / "damaged").mkdir()
    whole = (source / "card" / "weights.safetensors").read_bytes()
    (tmp_path / "damaged" / "weights.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MISTAKES, match=message):
        init_from.read(tmp_path / what)


def test_what_fits_nowhere_and_what_is_no_other_folder(tmp_path, source):
    with pytest.raises(config.ConfigError, match="nothing fits this network; it has batch_stats/"):
        init_from.fit(init_from.read(source / "card"), {"params": {"head": {"bias": np.zeros(10)}}})
    for folder, message in (
        (tmp_path / "own", "is this run's own workdir"),
        ("~nobody_of_that_name/x", "there is no such home folder"),
    ):
        code, out = train(tmp_path / "own", f"--config.init_from={folder}")
        assert code == 2 and "Traceback" not in out, out
        (line,) = (line for line in out.splitlines() if line.startswith("error: "))
        assert message in line
        assert not (tmp_path / "own").exists()


def test_it_is_part_of_the_run(tmp_path):
    settings = get_config()
    config.claim(tmp_path, settings)
    settings.init_from = "elsewhere"
    with pytest.raises(config.ConfigError, match="init_from: '' there, 'elsewhere' now"):
        config.claim(tmp_path, settings)
