"""Checkpoints in folders of every name, and steps that are not what their folder says.

Two parts of the campaign behind docs/reliability.md (`campaign.py`); the suite runs short forms.
"""

import random
import shutil

import jax
import jax.numpy as jnp

from dalif_jax.runs.checkpoint import CheckpointError, Checkpoints

# Alone, and all but the slash of what a keyboard has; as the folder and above it.
ODD = (*"[]*?{}#%~ '\"\\\n\té$&;|<>!()`^:=+,@", "**", "[0.1]", "-rf", "..x", "%2F", "ü日本")


def small(step):
    return {"x": jnp.arange(3000.0) * step}


def small_like():
    one = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return {"x": jax.ShapeDtypeStruct((3000,), jnp.float32, sharding=one)}


def names(count, seed=0):
    """Every odd text by itself, all together in both parts of a path, then `count` drawn ones."""
    yield from (f"a{odd}b" for odd in ODD)
    yield "".join(ODD)
    yield "".join(ODD) + "/" + "".join(ODD)
    rng = random.Random(seed)
    for number in range(count):
        drawn = ("".join(rng.choices(ODD, k=rng.randint(1, 8))) for _ in range(rng.randint(1, 3)))
        yield f"{number}" + "/".join(f"{part}e" for part in drawn)


def odd_paths(folder, count, seed=0):
    """Save, continue and evaluate under every name; a run that is moved goes on where it lies."""
    counts = {"paths": 0, "saves": 0, "read_back": 0, "lost": 0}
    for name in names(count, seed):
        where = folder / name / "c"
        with Checkpoints(where, 1) as checkpoints:
            checkpoints.save(1, small(1), 0.5)
            checkpoints.finish()
        with Checkpoints(where, 1) as checkpoints:  # continued
            assert checkpoints.restore_newest(small_like())[0] == 1, name
            checkpoints.save(2, small(2), 0.25)
            checkpoints.finish()
        with Checkpoints(where, 1, create=False) as checkpoints:  # evaluated
            assert (checkpoints.steps(), checkpoints.best()) == ([1, 2], 1), name
            assert (checkpoints.restore(2, small_like())[0]["x"] == small(2)["x"]).all(), name
        counts["paths"] += 1
        counts["saves"] += 2
        counts["read_back"] += 2
    where.rename(folder / "moved")
    with Checkpoints(folder / "moved", 1) as checkpoints:
        assert checkpoints.restore_newest(small_like())[0] == 2
    return counts


# ---- A checkpoint is the step, and of the run, that it says.


def written(folder, steps=(1, 2, 3), **run):
    with Checkpoints(folder, len(steps), run=run) as checkpoints:
        for step in steps:
            checkpoints.save(step, small(step + 100 * run.get("seed", 0)))
        checkpoints.finish()
    return folder


def renamed(c, other):
    (c / "3").rename(c / "9")


def copied_over(c, other):
    shutil.rmtree(c / "3")
    shutil.copytree(c / "1", c / "3")


def arrays_of_another_step(c, other):
    shutil.rmtree(c / "3" / "state")
    shutil.copytree(c / "1" / "state", c / "3" / "state")


def of_another_run(c, other):
    shutil.rmtree(c / "3")
    shutil.copytree(other / "3", c / "3")


def arrays_of_another_run(c, other):
    shutil.rmtree(c / "3" / "state")
    shutil.copytree(other / "3" / "state", c / "3" / "state")


def record_of_another_run(c, other):
    shutil.rmtree(c / "3" / "record")
    shutil.copytree(other / "3" / "record", c / "3" / "record")


def later_of_another_run(c, other):
    shutil.copytree(other / "7", c / "7")


MIXED = (renamed, copied_over, arrays_of_another_step, of_another_run, arrays_of_another_run,
         record_of_another_run, later_of_another_run)  # fmt: skip


def mixed(folder, seeds):
    """One to three steps of five renamed, copied over or taken from another run: what is restored
    is a step that was left alone, and right; where none is left, the run is refused."""
    run = {"seed": 0, "depth": 20}
    whole = written(folder / "whole", (1, 2, 3, 4, 5), **run)
    other = written(folder / "other", (1, 2, 3, 4, 5, 7), seed=1, depth=20)
    counts = {"folders": 0, "steps_not_theirs": 0, "read_right": 0, "refused": 0, "wrong": 0}
    for seed in range(seeds):
        rng, c = random.Random(seed), folder / f"c{seed}"
        shutil.copytree(whole, c)
        spoiled = set()
        for step in rng.sample(range(1, 6), rng.randint(1, 5)):
            spoil(c, other, step, rng)
            spoiled.add(step)
        good = max({1, 2, 3, 4, 5} - spoiled, default=None)
        counts["folders"] += 1
        counts["steps_not_theirs"] += len(spoiled)
        try:
            with Checkpoints(c, 5, run=run) as checkpoints:
                step, found, _ = checkpoints.restore_newest(small_like())
        except CheckpointError:
            assert good is None, (seed, spoiled)
            counts["refused"] += 1
            continue
        assert step == good, (seed, spoiled, step)
        assert (found["x"] == small(step)["x"]).all(), (seed, spoiled)
        counts["read_right"] += 1
        shutil.rmtree(c)
    return counts


def spoil(c, other, step, rng):
    """Put in the place of a step what was not saved there."""
    kind, path = rng.choice(("renamed", "another step", "another run", "parts")), c / str(step)
    if kind == "renamed":
        path.rename(c / str(step + rng.choice((10, 100, 1000)) * 5))
        return
    from_run, from_step = other, rng.choice((1, 2, 3, 4, 5, 7))
    part = ("state", "record")[rng.randrange(2)] if kind == "parts" else "."
    if kind == "another step":
        from_run, from_step = (
            other.parent / "whole",
            rng.choice([n for n in range(1, 6) if n != step]),
        )
    shutil.rmtree(path / part)
    shutil.copytree(from_run / str(from_step) / part, path / part)
