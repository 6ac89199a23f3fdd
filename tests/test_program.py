"""The two commands from the outside: training, resuming after SIGKILL, evaluating."""

import importlib.metadata
import json
import re
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
from campaign import OF_THE_PROCESS
from commands import (
    SHORT,
    command,
    final_state,
    finished,  # noqa: F401  fixtures
    run,
    train,
)

from dalif_jax.runs.runlog import read_metrics


def test_a_run_shows_and_leaves_what_people_expect(finished):
    workdir, out = finished
    assert "stage0_block0/neuron1" in out and "parameters: 3944" in out
    assert "images/s" in out and "left" in out and "epoch 4/4" in out
    for picture in ("curves.png", "numbers.png", "firing_rates.png"):
        assert (workdir / picture).read_bytes()[:4] == b"\x89PNG"
    assert list((workdir / "tensorboard").iterdir())
    records = read_metrics(workdir / "metrics.jsonl")
    evals = [r for r in records if r["kind"] == "eval"]
    assert [r["epoch"] for r in evals] == [1, 2, 3, 4]
    steps = [r["step"] for r in records if r["kind"] == "train"]
    assert steps == sorted(set(steps)) and steps[-1] == 4 * 17
    layer = evals[-1]["layers"]["stem0_neuron"]
    assert set(layer) == {"alpha", "beta", "firing_rate", "spikes", "synaptic_operations"}
    # The decays moved, and spikes are whole numbers that their rate explains.
    assert layer["alpha"] != pytest.approx(np.tanh(1.0), abs=1e-4)
    assert layer["spikes"] == round(layer["firing_rate"] * 287 * 2 * 8 * 8 * 8)
    values = json.loads((workdir / "eval.json").read_text())
    assert values["examples"] == 287 and values["parameters"] == 3944
    assert values["other_splits"]["unseen_writers"]["examples"] == 360
    assert values["accuracy"] == evals[-1]["accuracy"]


def test_eval_repeats_the_last_epoch_exactly_and_labels_the_best(finished):
    workdir, _ = finished
    before = json.loads((workdir / "eval.json").read_text())
    code, out = run("eval.py", "--workdir", workdir)
    assert code == 0, out
    assert json.loads((workdir / "eval.json").read_text()) == before
    assert "accuracy" in out and "stem0_neuron" in out
    code, out = run("eval.py", "--workdir", workdir, "--checkpoint", "best")
    assert code == 0, out
    best = json.loads((workdir / "eval_best.json").read_text())
    evals = [r for r in read_metrics(workdir / "metrics.jsonl") if r["kind"] == "eval"]
    assert best["accuracy"] == max(r["accuracy"] for r in evals)
    assert best["chosen_on"] == "test" and "chosen on the test set" in out
    # The answer first; the last line says where all of it is.
    lines = [line for line in out.splitlines() if line]
    place = next(i for i, line in enumerate(lines) if line.startswith("test: accuracy"))
    assert place < next(i for i, line in enumerate(lines) if line.startswith("layer "))
    assert lines[-1].endswith("report_best.html")


def test_a_damaged_log_is_one_clear_line(finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    log = workdir / "metrics.jsonl"
    log.write_bytes(b"\xff\x00nonsense\n" + log.read_bytes())
    code, out = train(workdir)
    assert code == 2 and "metrics.jsonl line 1 is not a metrics record" in out
    assert "Traceback" not in out


def test_results_of_another_checkpoint_have_names_of_their_own(finished, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished[0], workdir)
    for path in workdir.glob("*_best.*"):
        path.unlink()
    files = {p.name: p.read_bytes() for p in workdir.iterdir() if p.is_file()}
    code, out = run("eval.py", "--workdir", workdir, "--checkpoint", "best")
    assert code == 0, out
    own = {"eval", "report", "confusion", "energy", "sample_0", "membranes_0", "firing_rates"}
    added = {p.name for p in workdir.iterdir()} - set(files) - {"checkpoints", "tensorboard"}
    assert {name.split("_best.")[0] for name in added} == own
    for name, content in files.items():
        # Curves are of the run; drawn again they are the same.
        assert (workdir / name).read_bytes() == content, name
    step = json.loads((workdir / "eval_best.json").read_text())["step"]
    page = (workdir / "report_best.html").read_text()
    assert f"best checkpoint, step {step}, epoch {step // 17}" in page
    assert "eval_best.json" in page
    assert "newest checkpoint, step 68, epoch 4" in (workdir / "report.html").read_text()


def test_the_report_is_one_file_that_needs_no_network(finished):
    workdir, _ = finished
    page = (workdir / "report.html").read_text()
    values = json.loads((workdir / "eval.json").read_text())
    assert f"{values['accuracy']:.2%}" in page and f"{values['parameters']:,}" in page
    pictures = re.findall(r'src="(.*?)"', page)
    assert len(pictures) == 7 and all(p.startswith("data:image/png;base64,") for p in pictures)
    assert not re.search(r"https?://|<script|<link", page)
    device = [r["device"] for r in read_metrics(workdir / "metrics.jsonl") if "device" in r][-1]
    jax_version = importlib.metadata.version("jax")
    for text in ("seed", "3407", device, "training time", f"jax {jax_version}", "page written"):
        assert text in page, text
    assert np.sum(values["confusion"]) == values["examples"]
    assert np.trace(values["confusion"]) == round(values["accuracy"] * values["examples"])


@pytest.mark.slow
def test_a_run_copied_in_part_is_named_and_what_can_be_written_is(finished, tmp_path):
    workdir, _ = finished
    part = tmp_path / "part"
    shutil.copytree(workdir, part)
    (part / "metrics.jsonl").unlink()
    (part / "eval.json").unlink()
    code, out = run("eval.py", "--workdir", part)
    assert code == 2 and "metrics.jsonl does not exist" in out and "Traceback" not in out, out
    assert (part / "eval.json").is_file()
    # A checkpoint of another config: both sides are named.
    values = json.loads((part / "config.json").read_text()) | {"model": "mini"}
    (part / "config.json").write_text(json.dumps(values))
    code, out = run("eval.py", "--workdir", part)
    assert code == 2 and "Traceback" not in out and "(16, 10) there, float32 (64, 10)" in out, out
    shutil.rmtree(part / "checkpoints")
    code, out = run("eval.py", "--workdir", part)
    assert code == 2 and "no checkpoints" in out, out


def test_a_card_is_measured_as_its_run(finished, tmp_path):
    workdir, _ = finished
    code, out = run("eval.py", "--workdir", workdir, "--export", tmp_path / "card")
    assert code == 0 and "network.nir" in out, out
    code, again = run("eval.py", "--card", tmp_path / "card")
    assert code == 0, again
    shown = lambda text: [line for line in text.splitlines() if "accuracy" in line]  # noqa: E731
    assert [line for line in shown(again) if "card" not in line] == shown(out)
    assert len(shown(out)) == 2 and "\nagrees with the card: accuracy " in again
    code, out = run("eval.py", "--card", tmp_path)
    assert code == 2 and "Traceback" not in out, out
    for wrong in (("--workdir", workdir), ("--sample", "3")):
        code, out = run("eval.py", "--card", tmp_path / "card", *wrong)
        assert code == 2 and wrong[0] in out and "Traceback" not in out, out


@pytest.mark.slow
def test_a_killed_run_ends_bit_identical(finished, tmp_path):
    """SIGKILL in the third epoch, start again: same parameters, momentum, statistics, metrics."""
    process = subprocess.Popen(
        **command("train.py", "--config", "configs/digits.py", "--workdir", tmp_path, *SHORT)
    )
    deadline = time.monotonic() + 240
    metrics = tmp_path / "metrics.jsonl"
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and '"step": 35,' in metrics.read_text():
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    code, out = train(tmp_path)
    assert code == 0, out
    assert "continuing" in out
    whole, _ = finished
    expected = final_state(whole)
    assert len(expected) > 20 and final_state(tmp_path) == expected

    def records(path):
        lines = read_metrics(path / "metrics.jsonl")
        return [{k: v for k, v in r.items() if k not in OF_THE_PROCESS} for r in lines]

    assert records(tmp_path) == records(whole)


def test_a_finished_run_started_again_measures_and_ends(finished):
    workdir, _ = finished
    before = (workdir / "metrics.jsonl").read_text()
    code, out = train(workdir)
    assert code == 0, out
    assert "continuing" in out and (workdir / "metrics.jsonl").read_text() == before


def test_a_workdir_of_another_config_is_refused_and_left_alone(finished):
    workdir, _ = finished
    before = sorted((p, p.stat().st_mtime_ns) for p in workdir.rglob("*"))
    code, out = train(workdir, "--config.learning_rate=0.3", "--config.neuron=tied")
    assert code == 2
    assert "learning_rate: 0.1 there, 0.3 now" in out and "neuron: 'dalif' there, 'tied' now" in out
    assert sorted((p, p.stat().st_mtime_ns) for p in workdir.rglob("*")) == before


@pytest.mark.slow
def test_programs_are_compiled_once_for_all_starts(tmp_path):
    """The second run finds the first one's programs on disk, in the user's cache by default."""
    environment = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    code, out = train(tmp_path / "a", **environment)
    assert code == 0, out
    kept = {path.name for path in (tmp_path / "cache/dalif_jax/xla").iterdir()}
    assert any("train_step" in name for name in kept)
    assert len(kept) > 20  # what compiles in a moment too
    assert train(tmp_path / "b", **environment)[0] == 0
    after = {path.name for path in (tmp_path / "cache/dalif_jax/xla").iterdir()}
    assert {name for name in after if name.endswith("-cache")} == {
        name for name in kept if name.endswith("-cache")
    }
    one, two = (read_metrics(tmp_path / run / "metrics.jsonl") for run in "ab")
    assert [r["loss"] for r in one if "loss" in r] == [r["loss"] for r in two if "loss" in r]


@pytest.mark.parametrize(("devices", "kept"), [(1, True), (2, False)])
def test_programs_of_several_cpu_devices_are_not_kept(tmp_path, devices, kept):
    """Read back, a train step that mixes neighbours waits for itself on eight devices."""
    code, out = run(
        "-c",
        "import jax; from dalif_jax.runs.places import compilation_cache; compilation_cache(); "
        "print(jax.config.jax_compilation_cache_dir)",
        XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}",
        JAX_COMPILATION_CACHE_DIR=str(tmp_path / "xla"),
    )  # fmt: skip
    assert code == 0 and out.strip() == (str(tmp_path / "xla") if kept else "None"), out


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    code, out = train(tmp_path, "--config.learning_rate=1e30", "--config.warmup_epochs=0")
    assert code == 1 and "not finite at step" in out and "Traceback" not in out
    assert not [p for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()]
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert records[-1]["kind"] == "nonfinite" and records[-1]["steps"]


@pytest.mark.slow
def test_held_out_training_data_chooses_the_best(tmp_path):
    code, out = train(tmp_path, "--config.validation_split=0.2", "--config.epochs=2")
    assert code == 0, out
    evals = [r for r in read_metrics(tmp_path / "metrics.jsonl") if r["kind"] == "eval"]
    assert [(r["split"], r["examples"]) for r in evals] == [("validation", 230)] * 2
    values = json.loads((tmp_path / "eval.json").read_text())
    assert values["examples"] == 287 and values["other_splits"]["validation"]["examples"] == 230
    code, out = run("eval.py", "--workdir", tmp_path, "--checkpoint", "best")
    assert code == 0 and "chosen on the validation set" in out


# What may lie in an environment and would each change a run, or end it.
LYING = {
    "JAX_ENABLE_X64": "1", "JAX_DISABLE_JIT": "1", "JAX_DEBUG_NANS": "1", "JAX_DEBUG_INFS": "1",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16", "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise", "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_DEFAULT_PRNG_IMPL": "rbg", "JAX_TRANSFER_GUARD": "disallow", "JAX_LOG_COMPILES": "1",
    "JAX_CHECK_TRACER_LEAKS": "1", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "JAX_DEFAULT_DTYPE_BITS": "64", "JAX_DEBUG_KEY_REUSE": "maybe", "PYTHONOPTIMIZE": "2",
    "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
}  # fmt: skip


@pytest.mark.slow
def test_a_run_owes_nothing_to_the_shell_it_is_started_from(finished, tmp_path):
    """Settings of JAX, no asserts, an ASCII locale, `~`: the same run bit for bit."""
    code, out = train("~/größe", HOME=str(tmp_path), **LYING)
    assert code == 0 and "Traceback" not in out, out
    (line,) = [line for line in out.splitlines() if line.startswith("left out of the environment")]
    assert all(f"{name}={LYING[name]}" in line for name in LYING if name.startswith("JAX_D"))
    workdir, (whole, _) = tmp_path / "größe", finished
    assert final_state(workdir) == final_state(whole)
    assert json.loads((workdir / "eval.json").read_text()) == json.loads(
        (whole / "eval.json").read_text()
    )
    assert (workdir / "report.html").is_file()


@pytest.mark.slow
def test_a_run_that_cannot_be_written_into_is_answered(finished, tmp_path):
    """Folders stand where files are to be written, which stops the administrator, too."""
    whole, _ = finished
    workdir = tmp_path / "archive"
    shutil.copytree(whole, workdir)
    shutil.rmtree(workdir / "tensorboard")
    (workdir / "eval.json").unlink()
    for name in ("eval.json", "eval.json.tmp"):
        (workdir / name / "in_the_way").mkdir(parents=True)
    code, out = run("eval.py", "--workdir", workdir, XDG_CACHE_HOME="/proc/none", HOME="/proc/none",
                    JAX_COMPILATION_CACHE_DIR="/proc/none")  # fmt: skip
    assert code == 0 and "Traceback" not in out, out
    assert "compiled programs are not kept: " in out and "JAX_COMPILATION_CACHE_DIR=FOLDER" in out
    answer = f"accuracy {json.loads((whole / 'eval.json').read_text())['accuracy']:.2%} of 287"
    assert answer in out and f"not written into {workdir}" in out and "--export=FOLDER" in out


def test_a_run_of_images_has_no_events_to_stream(finished):
    workdir, _ = finished
    code, out = run("-m", "examples.stream_events", "--workdir", workdir)
    assert code == 2 and "a run on digits, which holds images" in out, out
    assert out.count("\n") == 1
