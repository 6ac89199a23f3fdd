"""What each ingredient of a recipe gives: the recipe without it, paired with the recipe by seed.

    python -m ablations.ingredients --config configs/cifar10_fast.py --workdir runs/ingredients \\
        --seeds 3 --config.epochs=4

An ingredient is a key's value; without it is the value that the paper's own recipe has, or plain
training. An ingredient that the recipe does not have is left out of the table.
"""

import runpy

from ablations.ranking import rank
from ablations.runs import arguments, series

RECIPE = "recipe"


def _augment(config, without, instead=()):
    """The recipe's augmentation with one less."""
    return {"augment": tuple(a for a in config.augment if a != without) + instead}


# name: (the recipe has it, {key: value} of the recipe without it), both of the recipe.
INGREDIENTS = {
    "muon": (
        lambda c: c.optimizer == "muon",
        lambda c: {"optimizer": "sgd", "learning_rate": 0.2, "weight_decay": 5e-4},
    ),
    "triangle": (lambda c: c.surrogate == "triangle", lambda c: {"surrogate": "rectangle"}),
    "one cycle": (lambda c: c.schedule == "onecycle", lambda c: {"schedule": "cosine"}),
    # The paper's is 1e-4.
    "weight decay": (lambda c: c.weight_decay > 1e-4, lambda c: {"weight_decay": 0.0}),
    "shortcuts": (
        lambda c: c.model_options.get("shortcuts", False),
        lambda c: {"model_options.shortcuts": False},
    ),
    "Nesterov": (lambda c: c.nesterov, lambda c: {"nesterov": False}),
    "label smoothing": (lambda c: c.label_smoothing > 0, lambda c: {"label_smoothing": 0.0}),
    "crop": (lambda c: "crop" in c.augment, lambda c: _augment(c, "crop")),
    "flip": (lambda c: "flip" in c.augment, lambda c: _augment(c, "flip")),
    "alternating flips": (
        lambda c: "alternate_flip" in c.augment,
        lambda c: _augment(c, "alternate_flip", ("flip",)),
    ),
    "mirrored border": (
        lambda c: c.crop_border == "reflect" and "crop" in c.augment,
        lambda c: {"crop_border": "black"},
    ),
    "hole of the mean colour": (
        lambda c: c.cutout_fill == "mean" and "cutout" in c.augment,
        lambda c: {"cutout_fill": "black"},
    ),
    "cutout": (lambda c: "cutout" in c.augment, lambda c: _augment(c, "cutout")),
    "learned gain": (lambda c: c.neuron == "dalif", lambda c: {"learn_alpha": False}),
    "bfloat16": (lambda c: c.dtype == "bfloat16", lambda c: {"dtype": "float32"}),
}


def settings(config):
    """{name: {key: value}} of the recipe and of it without each ingredient that it has."""
    without = {f"no {k}": keys(config) for k, (has, keys) in INGREDIENTS.items() if has(config)}
    return {RECIPE: {}} | without


def main():
    given, rest = arguments(__doc__, seeds=3)
    config = runpy.run_path(given.config)["get_config"]()
    for row in rank(series(given, rest, settings(config), keep_failed=True), RECIPE):
        print(row.text())


if __name__ == "__main__":
    main()
