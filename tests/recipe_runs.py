"""Each recipe as it is, on simulated devices: train, resume, evaluate, in processes of their own.

    python tests/recipe_runs.py --devices 2 --out FILE.json [RECIPE ...]

Only images, their sides, the batch and the epochs are small: dtype, timesteps, optimizer,
augmentation, norm, loss and network are the recipe's.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import small_data  # noqa: E402  after the path

# The smallest side of at least 32 pixels that each recipe's network accepts.
SIDES = (32, 48, 64, 96, 128)
# As in conftest.py: compiling takes most of the time.
FAST = "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"


def recipes():
    """Every recipe of configs/, as --config names it; a file of several is one of them."""
    paths = sorted((ROOT / "configs").rglob("*.py"))
    return [str(path.relative_to(ROOT)) for path in paths if path.stem not in ("__init__", "base")]


def config_of(recipe):
    import importlib

    path = recipe.partition(":")[0]
    return importlib.import_module(path.removesuffix(".py").replace("/", ".")).get_config()


def overrides(recipe, data, batch):
    """The overrides that make a recipe small, and nothing else."""
    from dalif_jax import networks
    from dalif_jax.data import sets

    config = config_of(recipe)
    spec = sets.SPECS[config.dataset]
    words = [f"--config.batch_size={batch}", f"--config.eval_batch_size={batch}"]
    if place := small_data.data_dir(data, config.dataset):
        words += [f"--config.data_dir={place}", f"--config.cache_dir={data}/cache"]
    if (spec.events or spec.streamed) and place:
        words += ["--config.partial_data=True"]
        own = dict(config.model_options)
        side = config.frame_size or spec.shape[0]
        fits = (n for n in SIDES if n < side and networks.last_side(config.model, n, **own))
        words += [f"--config.frame_size={n}" for n in fits][:1]
        # A crop, a hole and a roll that fit the smaller frames, where the recipe's do not.
        small = int(words[-1].rpartition("=")[2]) if "frame_size" in words[-1] else side
        for key in ("crop_padding", "cutout_size", "roll_pixels"):
            if config[key] >= small:
                words.append(f"--config.{key}={small // 4}")
    return [*words, "--config.warmup_epochs=0"]


def environment(devices, rank=None, count=1, job=0):
    flags = f"--xla_force_host_platform_device_count={devices} {FAST}"
    variables = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    if rank is not None:
        variables |= {
            "SLURM_JOB_ID": str(job), "SLURM_NTASKS": str(count), "SLURM_PROCID": str(rank),
            "SLURM_STEP_NODELIST": "localhost", "SLURM_LOCALID": str(rank),
        }  # fmt: skip
    return variables


def start(data, program, *arguments, devices, processes=1):
    """Run a program on small data; returns its output, or raises AssertionError with it."""
    command = [sys.executable, str(ROOT / "tests/small_data.py"), str(data), program]
    ranks = [None] if processes == 1 else range(processes)
    job, more = random.randrange(10**6), () if processes == 1 else ("--distributed",)
    running = [
        subprocess.Popen(
            [*command, *more, *map(str, arguments)], cwd=ROOT, text=True,
            env=environment(devices, rank, processes, job),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for rank in ranks
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=900)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    codes = [process.returncode for process in running]
    assert codes == [0] * processes, f"{program} {' '.join(arguments)}: exit {codes}\n" + "\n".join(
        text[-3000:] for text in outputs
    )
    assert "Traceback" not in outputs[0], outputs[0]
    return outputs[0]


def train_resume_evaluate(recipe, data, workdir, devices=2, processes=1):
    """Train a recipe for an epoch, resume it for another, evaluate it on one process.

    Returns:
      {"seconds", "steps", "accuracy"}.
    Raises:
      AssertionError: a program failed, or did not do what it should.
    """
    workdir, began = str(workdir), time.monotonic()
    batch = max(4, devices * processes)
    arguments = ["--config", recipe, "--workdir", workdir, *overrides(recipe, data, batch)]
    where = {"devices": devices, "processes": processes}
    out = start(data, "train.py", *arguments, "--config.epochs=1", **where)
    table = [
        line.split()[0] for line in out.splitlines() if re.match(r"\S+ +\w*(Conv|Dense) ", line)
    ]
    assert len(table) == len(set(table)) > 1, f"layers stand twice in the table: {table}"
    assert f"{devices * processes} x cpu" in out, out
    first = int(re.search(r"(\d+) steps an epoch", out)[1])
    out = start(data, "train.py", *arguments, "--config.epochs=2", **where)
    assert f"after step {first}" in out and f"step {2 * first}/{2 * first}" in out, out
    trained = json.loads(Path(workdir, "eval.json").read_text())
    start(data, "eval.py", "--workdir", workdir, devices=devices)
    measured = json.loads(Path(workdir, "eval.json").read_text())
    for key in ("accuracy", "examples"):
        assert trained[key] == measured[key], (key, trained[key], measured[key])
    assert abs(trained["loss"] - measured["loss"]) <= 2e-3 * abs(measured["loss"])
    seconds = round(time.monotonic() - began, 1)
    return {"seconds": seconds, "steps": 2 * first, "loss": measured["loss"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*")
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out")
    given = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        small_data.write_all(data)
        for number, recipe in enumerate(given.recipes or recipes()):
            try:
                results[recipe] = train_resume_evaluate(
                    recipe, data, Path(folder) / str(number), given.devices, given.processes
                )
            except (AssertionError, subprocess.TimeoutExpired) as error:
                results[recipe] = {"failed": str(error)[-1500:]}
            print(recipe, results[recipe], flush=True)
            if given.out:
                Path(given.out).write_text(json.dumps(results, indent=2) + "\n")
    failed = [recipe for recipe, row in results.items() if "failed" in row]
    print(f"{len(results)} recipes, {len(failed)} failed: {', '.join(failed)}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
