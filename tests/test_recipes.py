"""Recipes: found and named, valid, with a command each, and compiled for other devices."""

import re

import pytest
from commands import ROOT, run, train

RECIPES = sorted(path.stem for path in (ROOT / "configs").glob("*.py") if path.stem[0] != "_")
RECIPES_GIVEN = [
    ("configs/digit.py", "did you mean configs/digits.py"),
    ("cifar10_r20.py", "did you mean configs/cifar10_r20.py"),
    ("configs/zzzzzz.py", "the recipes are configs/cifar100_r19.py, "),
    ("configs", "is a folder"),
]


@pytest.mark.parametrize(("given", "message"), RECIPES_GIVEN, ids=[g for g, _ in RECIPES_GIVEN])
def test_a_recipe_that_is_not_there_is_one_line_with_the_nearest(given, message):
    from dalif_jax.settings import config, recipes

    with pytest.raises(config.ConfigError, match=f"^--config={given} .*{message}") as error:
        recipes.check(given)
    assert "\n" not in str(error.value)


BROKEN = [
    ("def get_config(:\n", "line 1: SyntaxError"),
    ("\n\ndef get_config():\n    return 1 / 0\n", "line 4: ZeroDivisionError"),
    ("x = 1\n", "has no function get_config"),
    (None, "did you mean configs/digits.py"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN, ids=[m for _, m in BROKEN])
def test_a_broken_recipe_is_one_line(tmp_path, text, message):
    recipe = tmp_path / ("recipe.py" if text else "digits.py")
    if text:
        recipe.write_text(text)
    code, out = run("train.py", f"--config={recipe}", "--dry_run")
    assert code == 2 and "Traceback" not in out and message in out, out
    assert out.startswith("error: ") and out.count("\n") == 1 and str(recipe) in out


def test_a_recipes_warm_up_shrinks_with_its_epochs(tmp_path):
    """Its share of them stays; what is given beside it is taken as it is, or refused."""
    dry = ("train.py", "--config", "configs/digits.py", "--dry_run", "--config.epochs=1")
    code, out = run(*dry)
    assert code == 0 and "warmup_epochs=0.0125: the recipe's 1 of 80 epochs" in out, out
    code, out = run(*dry, "--config.warmup_epochs=1")
    assert code == 2 and "warmup_epochs=1 must be below epochs=1" in out, out


def test_help_names_recipes_and_main_keys():
    code, out = run("train.py", "--help")
    assert code == 0
    for recipe in RECIPES:
        assert (f"configs/{recipe}.py  " in out) is (recipe != "base")
    assert "Handwritten digits of scikit-learn" in out and "--workdir: " in out
    assert re.search(r"--config\.learning_rate=0\.1\n", out)
    assert re.search(r"--config\.neuron=dalif +dalif, lif, tied", out)


@pytest.mark.slow
def test_digits_train_without_the_optional_libraries(tmp_path):
    """tensorflow-datasets, tonic and grain blocked: importing and one epoch still work."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nfor name in ('tensorflow_datasets', 'tonic', 'grain', 'tensorflow'):\n"
        "    sys.modules[name] = None\n"
    )
    code, out = train(
        tmp_path / "run", "--config.epochs=1", "--config.warmup_epochs=0", PYTHONPATH=str(tmp_path)
    )
    assert code == 0, out
    assert (tmp_path / "run" / "eval.json").exists()


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_valid_and_says_how_to_run_it(recipe):
    import importlib

    from dalif_jax import training
    from dalif_jax.analysis import summary
    from dalif_jax.data.sets import SPECS
    from dalif_jax.settings import config

    module = importlib.import_module(f"configs.{recipe}")
    settings = module.get_config()
    config.validate(settings, 8)
    model = training.build_model(settings)
    rows = summary.layers(model, (settings.timesteps, *SPECS[settings.dataset].shape))
    assert rows[-1].shape == (settings.timesteps, SPECS[settings.dataset].classes)
    if recipe != "base":
        assert f"--config configs/{recipe}.py" in module.__doc__
    assert config.to_json(config.from_json(config.to_json(settings), "x")) == config.to_json(
        settings
    )


def test_dry_run_needs_no_data():
    code, out = run(
        "train.py", "--config", "configs/imagenet_r34.py", "--dry_run", TFDS_DATA_DIR="/nowhere"
    )
    assert code == 0 and "parameters: 21797738" in out
    assert "stage3_block2/neuron1" in out


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipes_step_can_be_lowered_for_gpus_and_tpus(recipe):
    """On a machine that has neither: what they cannot run does not land."""
    import importlib

    import jax
    import jax.numpy as jnp

    from dalif_jax import training
    from dalif_jax.data import sets

    settings = importlib.import_module(f"configs.{recipe}").get_config()
    settings.dtype = "bfloat16"
    settings.batch_size = 8
    spec = sets.spec(settings.dataset, settings.frame_size)
    program = training.make_program(settings, 4, training.make_mesh())
    shape = (settings.timesteps, *spec.shape) if spec.events else spec.shape
    examples = 8 if spec.streamed else 32
    arguments = (
        training.abstract_state(program),
        jax.ShapeDtypeStruct((examples, *shape), jnp.uint8),
        jax.ShapeDtypeStruct((examples,), jnp.int32),
        None if spec.streamed else jax.ShapeDtypeStruct((4, 8), jnp.int32),
    )
    traced = program.train_step.trace(*arguments)
    for platform in ("cuda", "tpu"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert "stablehlo.convolution" in text
