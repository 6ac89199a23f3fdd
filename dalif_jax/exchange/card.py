"""A trained network as a folder to share: weights, config, measured figures, NIR graph, a page.

weights.safetensors   params/... and batch_stats/..., nothing else can be in it; kernels that the
                      network uses as bfloat16 are kept so, in half the space and to the same bits
config.json           the run's config
eval.json             what was measured with these weights
network.nir           the same network for other tools (interchange.py), where it has that form
README.md             what it is, in words
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dalif_jax import neurons, training
from dalif_jax.data import sets
from dalif_jax.exchange import interchange
from dalif_jax.settings import config

NEEDED = ("weights.safetensors", "config.json", "eval.json")
FILES = (*NEEDED, "network.nir", "README.md")  # what a card may hold


class CardError(ValueError):
    """A folder is no model card, or its weights are not those of its config."""


def flat(tree):
    """{"a/b/c": NumPy array} of nested dicts."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(key.key for key in path): np.asarray(leaf) for path, leaf in leaves}


def export(folder, settings, model, state, report, nir=True, origin=()):
    """Write a model card; an existing one in `folder` is replaced.

    Args:
      settings: the run's config.
      model: its network.
      state: TrainState; the averaged weights are exported where there are any.
      report: what eval.json holds.
      origin: [(what, value)] of where it comes from, for its page.
      nir: with network.nir, which holds 8 bytes a weight; it can be made from the card later.
    Returns:
      the paths written.
    """
    from safetensors.numpy import save

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    params = state.params if state.ema is None else state.ema
    variables = jax.device_get({"params": params, "batch_stats": state.batch_stats})
    settings = settings.copy_and_resolve_references()
    settings.data_dir = settings.cache_dir = ""  # of the machine, not of the network
    arrays = {name: as_used(name, array, settings.dtype) for name, array in flat(variables).items()}
    (folder / "weights.safetensors").write_bytes(save(arrays, {"format": "dalif_jax"}))
    (folder / "config.json").write_text(json.dumps(config.to_json(settings), indent=2) + "\n")
    (folder / "eval.json").write_text(json.dumps(report, indent=2) + "\n")
    spec = sets.spec(settings.dataset, settings.frame_size, settings.found)
    nir_note = "`network.nir` is the same network for other tools."
    (folder / "network.nir").unlink(missing_ok=True)
    if nir:
        try:
            write_nir(folder / "network.nir", settings, model, variables, spec.shape)
        except interchange.NotRepresentable as error:
            nir_note = f"It has no NIR file: {error}."
    else:
        nir_note = "`python eval.py --card FOLDER --export OTHER` adds the NIR file."
    (folder / "README.md").write_text(page(settings, report, nir_note, origin))
    return sorted(folder.iterdir())


def as_used(name, array, dtype):
    """A weight as it is kept: a kernel in bfloat16 where the network computes in it."""
    short = dtype == "bfloat16" and name.startswith("params/") and name.endswith("/kernel")
    return array.astype(jnp.bfloat16) if short else array


def write_nir(path, settings, model, variables, shape, **keys):
    """Write the network's NIR graph as an HDF5 file. Raises NotRepresentable."""
    options = config.neuron_options(settings)
    if settings.attention != "none":
        raise interchange.NotRepresentable(f"attention={settings.attention} has no form in NIR")
    graph = interchange.to_nir(model, variables, options, shape, norm=settings.norm, **keys)
    interchange.write(path, graph)


def page(settings, report, nir_note, origin=()):
    """The card's README."""
    splits = {"test": report} | report["other_splits"]
    title = neurons.NEURONS[settings.neuron].title
    lines = [
        f"# {settings.model} with `{settings.neuron}` neurons on {settings.dataset}",
        "",
        f"A spiking network of {title or f'`{settings.neuron}`'} neurons, T = "
        f"{settings.timesteps}, {report['parameters']:,} parameters, trained by dalif_jax with the "
        "settings in `config.json`"
        + (f", from the weights of `{settings.init_from}`." if settings.init_from else "."),
        "",
        "| split | examples | accuracy |",
        "|---|---|---|",
        *(
            f"| {name.replace('_', ' ')} | {row['examples']:,} | {row['accuracy']:.2%} |"
            for name, row in splits.items()
        ),
        "",
        f"Step {report['step']}, checkpoint: {report['checkpoint']}"
        + (f", chosen on the {report['chosen_on']} set" if report["chosen_on"] else "")
        + f". Energy of an example by the paper's rule "
        f"{report['energy']['paper']['energy_uj']:.4g} uJ, exactly "
        f"{report['energy']['exact']['energy_uj']:.4g} uJ; layer by layer in `eval.json`.",
        "",
        *(["| where from | |", "|---|---|"] if origin else []),
        *(f"| {what} | {value} |" for what, value in origin),
        *([""] if origin else []),
        "Measured again, from the top of a checkout of dalif_jax, FOLDER being this one:",
        "",
        "```sh",
        "python eval.py --card FOLDER"
        + ("" if settings.dataset.startswith("digits") else " --data_dir=DATA"),
        "```",
        "",
        nir_note,
        "",
    ]
    return "\n".join(lines)


def agreement(stated, measured):
    """A line: whether what a card states of the test set is what was measured now.

    Args:
      stated, measured: what evaluation.report gives.
    """
    pairs = [f"{row['accuracy']:.2%} of {row['examples']:,}" for row in (stated, measured)]
    right = [round(row["accuracy"] * row["examples"]) for row in (stated, measured)]
    if right[0] == right[1] and stated["examples"] == measured["examples"]:
        return f"agrees with the card: accuracy {pairs[0]} there, {pairs[1]} here"
    return (
        f"DIFFERS from the card: accuracy {pairs[0]} there, {pairs[1]} here: {right[0]:,} and "
        f"{right[1]:,} right answers"
    )


def flat_shapes(tree):
    """{"a/b/c": (shape, dtype)} of nested dicts of what has both."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(key.key for key in path): (leaf.shape, leaf.dtype) for path, leaf in leaves}


def weights(folder):
    """{"params/a/b/c": NumPy array} of a card, its batch_stats among them; bfloat16 as float32.

    Raises:
      CardError: the file is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(Path(folder) / "weights.safetensors", "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return {
            name: array.astype(np.float32) if array.dtype == jnp.bfloat16 else array
            for name, array in arrays.items()
        }
    except (SafetensorError, ValueError, OSError) as error:
        raise CardError(f"{folder} is damaged: {error}") from error


def load(folder):
    """Read a model card.

    Returns:
      (settings, program, state, report): state is a TrainState ready for `evaluate`.
    Raises:
      CardError: a file is missing or damaged, or weights and config do not belong together.
    """
    folder = Path(folder)
    for name in NEEDED:
        if not (folder / name).is_file():
            raise CardError(f"{folder} is no model card: {name} is missing")
    settings = config.load(folder)
    config.fit_batches(settings, jax.device_count())
    config.validate(settings, jax.device_count())
    arrays = weights(folder)
    try:
        report = json.loads((folder / "eval.json").read_text())
    except (ValueError, OSError) as error:
        raise CardError(f"{folder} is damaged: {error}") from error
    program = training.make_program(settings, 1, training.make_mesh())
    shapes = jax.eval_shape(program.init)
    expected = {"params": shapes.params, "batch_stats": shapes.batch_stats}
    wanted = flat_shapes(expected)
    found = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    for name in [*wanted, *found]:
        if wanted.get(name) != found.get(name):
            raise CardError(
                f"{folder}: {name} is {found.get(name, 'missing')} in weights.safetensors, "
                f"{wanted.get(name, 'nothing')} by config.json"
            )
    variables = jax.tree_util.tree_map_with_path(
        lambda path, _: arrays["/".join(key.key for key in path)], expected
    )
    state = training.TrainState(
        np.int32(report["step"]), variables["params"], variables["batch_stats"], (), None
    )
    return settings, program, jax.device_put(state, program.replicated), report
