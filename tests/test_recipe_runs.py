"""Recipes as users start them, on several simulated devices and in several processes."""

import pytest
import recipe_runs
import small_data

# One of each network family.
FAMILIES = (
    "configs/imagenet_r34.py",
    "configs/cifar10_fast.py",
    "configs/cifar10_r19.py",
    "configs/cifar10dvs_vgg16.py",
    "configs/authors/sew_imagenet_r18.py",
    "configs/authors/ms_imagenet_r18.py",
    "configs/authors/mlf_cifar10_ds20.py",
    "configs/authors/plif_cifar10.py",
    "configs/authors/ta_cifar10dvs.py",
    "configs/table2/sew_gesture_7b.py",
    "configs/table2/stsa_cifar10dvs.py",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    small_data.write_all(directory)
    return directory


def test_bfloat16_recipe_trains_on_two_devices(tmp_path):
    directory = tmp_path / "data"
    (directory / "cifar").mkdir(parents=True)
    small_data.write_cifar(directory / "cifar")
    recipe = "configs/cifar10_fast.py"
    words = recipe_runs.overrides(recipe, directory, 4)
    arguments = ("--config", recipe, "--workdir", str(tmp_path / "run"), *words)
    out = recipe_runs.start(directory, "train.py", *arguments, "--config.epochs=1", devices=2)
    assert "2 x cpu, bfloat16" in out and "step 4/4" in out, out


@pytest.mark.slow
@pytest.mark.parametrize("recipe", FAMILIES)
def test_recipe_trains_resumes_evaluates_on_two_devices(tmp_path, data, recipe):
    assert recipe_runs.train_resume_evaluate(recipe, data, tmp_path / "run")["steps"] >= 4


@pytest.mark.slow
@pytest.mark.parametrize("recipe", FAMILIES[:2])
@pytest.mark.parametrize(("devices", "processes"), [(8, 1), (1, 2), (2, 2)])
def test_recipe_trains_resumes_evaluates_as(tmp_path, data, recipe, devices, processes):
    run = recipe_runs.train_resume_evaluate(recipe, data, tmp_path / "run", devices, processes)
    assert run["steps"] >= 4
