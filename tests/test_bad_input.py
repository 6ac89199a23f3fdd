"""What is wrong on the command line, in the shell or on the disk is one clear line, and nothing is
lost."""

from pathlib import Path

import pytest
from commands import ROOT, run, train

BAD = [
    (("--config.timestep=3",), "did you mean 'timesteps'"),
    (("--config.timesteps=0",), "timesteps=0 must be at least 1"),
    (("--config.model=resnet21",), "known: resnet18"),
    (("--config.neuron=dalief",), "did you mean 'dalif'"),
    (("--config.surrogate=box",), "known: rectangle"),
    (("--config.dataset=mnist",), "known: digits"),
    (("--config.augment=('mixup',)",), "known: crop"),
    (("--config.learning_rate=nan",), "not a finite number"),
    (("--config.timesteps=two",), "invalid literal"),
    (("--config.neuron=baseline", "--config.beta=0.9"), "stands for beta=0.25"),
    (("--config.batch_size=2000",), "must lie in 1..1150, the training examples"),
    (("--config.dataset=cifar10", "--config.data_dir=/nowhere/at/all"), "/nowhere/at/all"),
    (("extra",), "unexpected argument"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_bad_input_is_one_clear_line_and_nothing_is_left(arguments, message, tmp_path):
    workdir = tmp_path / "run"
    code, out = train(workdir, *arguments)
    assert code != 0 and message in out, out
    assert "Traceback" not in out and not workdir.exists()


def test_a_batch_that_does_not_divide_over_the_devices_is_refused(tmp_path):
    flag = "--xla_force_host_platform_device_count=8"
    code, out = train(tmp_path / "run", "--config.batch_size=60", XLA_FLAGS=flag)
    assert code == 2 and "8 devices; the nearest that does is 64" in out


def test_an_unknown_key_inside_a_recipe_is_named(tmp_path):
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        "from configs.base import get_config as base\n\n\ndef get_config():\n"
        "    config = base()\n    config.learning_rat = 1.0\n    return config\n"
    )
    code, out = run("train.py", "--config", recipe, "--workdir", tmp_path / "run")
    assert code == 2
    assert "inside the recipe" in out and "did you mean 'learning_rate'" in out


def test_a_bucket_is_no_workdir():
    code, out = train("gs://bucket/run")
    assert code == 2 and "needs a file system for its lock" in out
    assert not (ROOT / "gs:").exists()


def test_eval_without_a_run_says_so(tmp_path):
    code, out = run("eval.py", "--workdir", tmp_path)
    assert code == 2 and "config.json does not exist" in out


def test_an_idle_accelerator_is_warned_about(monkeypatch, capsys):
    from dalif_jax.runs import command

    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(Path, "glob", lambda self, pattern: ["x"] if "nvidia" in pattern else [])
    command.accelerator_warning()
    assert "jax[cuda13]" in capsys.readouterr().err
    monkeypatch.setattr(Path, "glob", lambda self, pattern: ["x"] if "accel" in pattern else [])
    command.accelerator_warning()
    assert "jax[tpu]" in capsys.readouterr().err
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [])
    command.accelerator_warning()
    assert capsys.readouterr().err == ""


SHELLS = [
    ({"JAX_PLATFORMS": "cuda"}, "JAX_PLATFORMS=cuda, but JAX finds no such device"),
    ({"JAX_PLATFORMS": "nothing"}, "JAX_PLATFORMS=nothing, but JAX finds no such device"),
    ({"JAX_NUM_CPU_DEVICES": "two"}, "a setting that JAX does not take"),
    (
        {"XLA_FLAGS": "--xla_flag_of_tomorrow=1"},
        "Unknown flag in XLA_FLAGS: --xla_flag_of_tomorrow",
    ),
    ({"XLA_FLAGS": "nowhere"}, 'Could not open file "nowhere"'),
]


@pytest.mark.parametrize(("environment", "message"), SHELLS, ids=[str(e) for e, _ in SHELLS])
def test_what_jax_does_not_take_from_the_shell_is_one_line(environment, message):
    code, out = run("train.py", "--config", "configs/digits.py", "--dry_run", **environment)
    assert code == 2 and out.startswith("error: ") and out.count("\n") == 1 and message in out, out


def test_a_workdir_that_cannot_be_made_is_one_line(tmp_path):
    from dalif_jax.runs import command
    from dalif_jax.settings import config

    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "gone" / "x")
    for place in ("file", "file/below", "dangling", "/proc/run"):
        with (
            pytest.raises(config.ConfigError, match=f"--workdir={tmp_path / place} cannot be made"),
            command.only_one(tmp_path / place),
        ):
            raise AssertionError("entered")
    code, out = train(tmp_path / "file" / "below")
    assert code == 2 and "error: --workdir=" in out and "Traceback" not in out, out
    assert not (tmp_path / "gone").exists()


def test_folders_are_named_as_people_name_them(monkeypatch):
    from dalif_jax.runs import places
    from dalif_jax.settings import config

    monkeypatch.setenv("HOME", "/home/somebody")
    assert places.folder("~/runs/x", "workdir") == "/home/somebody/runs/x"
    assert places.folder("runs/~x", "workdir") == "runs/~x"
    with pytest.raises(config.ConfigError, match="--card=~nobody_at_all/x: there is no such home"):
        places.folder("~nobody_at_all/x", "card")
    with pytest.raises(config.ConfigError, match=r"--workdir='gr\\udcf6\\xdfe' is not in UTF-8"):
        places.folder("gr\udcf6ße", "workdir")
