"""A trained network as a folder to share: weights, config, measured figures, NIR graph, a page.

weights.safetensors   params/... and batch_stats/..., nothing else can be in it; kernels that the
                      network uses as bfloat16 are kept so, in half the space and to the same bits
config.json           the run's config
eval.json             what was measured with these weights; sha256 of both files above, so that a
                      measurement and the weights of another network are not taken for one card
network.nir           the same network for other tools (interchange.py), where it has that form
README.md             what it is, in words

A card names nothing of the machine: paths are left out of it, and those of a card of somebody else
are not used. A card is written whole beside the old one and then takes its place; other files in
its folder are kept.
"""

import hashlib
import html
import json
import math
import re
import secrets
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dalif_jax import neurons, strict_json, training
from dalif_jax.atomic_write import atomic_write
from dalif_jax.data import sets
from dalif_jax.exchange import interchange
from dalif_jax.settings import config

NEEDED = ("weights.safetensors", "config.json", "eval.json")
FILES = (*NEEDED, "network.nir", "README.md")  # what a card may hold
TIED = NEEDED[:2]  # the files whose sha256 eval.json holds
FORMAT = {"format": "dalif_jax"}  # metadata of weights.safetensors
HUB_NAME = re.compile(r"hub:[\w.-]+/[\w.-]+(?:@[\w./-]+)?")
# Of a dataset record: what describes the set. Anything else may be of the machine it lies on.
DATASET_KEYS = (
    "shape", "classes", "train", "test", "mean", "std", "timesteps", "fingerprint",
)  # fmt: skip
UNFINISHED = re.compile(r"\.[0-9a-f]{16}\.tmp")  # what an export that was killed left behind
MAX_HEADER = 2**24  # bytes of weights.safetensors that name its tensors
MAX_BATCH = 2**31  # bytes of a batch's input while a card is measured
DTYPES = ("F32", "F64", "BF16")


class CardError(ValueError):
    """A folder is no model card, or its weights are not those of its config."""


def flat(tree):
    """{"a/b/c": NumPy array} of nested dicts."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(key.key for key in path): np.asarray(leaf) for path, leaf in leaves}


def check_target(folder):
    """Refuse to export where something other than a card would be overwritten.

    Raises:
      CardError: the folder holds files and is not a card, or is a file.
    """
    folder = Path(folder)
    if folder.is_symlink() and not folder.exists():
        raise CardError(f"--export={folder} is a link to nothing; name a new or empty directory")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise CardError(f"--export={folder} is not a directory; name a new or empty one")
    for name in FILES:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            raise CardError(f"--export={folder}: {name} is a directory there; name another one")
    entries = [path for path in folder.iterdir() if not UNFINISHED.fullmatch(path.name)]
    if entries and not is_card(folder):
        raise CardError(
            f"--export={folder} holds files and is not a model card; name a new or empty "
            "directory, or one of an earlier card, so that nothing else is overwritten"
        )


def is_card(folder):
    """Whether a folder holds the files of a card, its weights written by this project."""
    folder = Path(folder)
    if not all((folder / name).is_file() for name in NEEDED):
        return False
    try:
        header = _header(folder / "weights.safetensors")
        settings = strict_json.read(folder / "config.json")
    except (CardError, strict_json.JSONError, OSError):
        return False
    return header.get("__metadata__") == FORMAT and {"model", "neuron"} <= settings.keys()


def export(folder, settings, model, state, report, nir=True, origin=()):
    """Write a model card; an existing one in `folder` is replaced, other files in it are kept.

    Args:
      settings: the run's config.
      model: its network.
      state: TrainState; the averaged weights are exported where there are any.
      report: what eval.json holds.
      origin: [(what, value)] of where it comes from, for its page.
      nir: with network.nir, which holds 8 bytes a weight; it can be made from the card later.
    Returns:
      the paths written.
    Raises:
      CardError: see check_target.
      OSError: the card cannot be written; an earlier one is as it was.
    """
    check_target(folder)
    folder = Path(folder)
    created = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    # Inside the folder: the same file system, and no right to write into its parent is needed.
    whole = folder / f".{secrets.token_hex(8)}.tmp"
    try:
        whole.mkdir()
        _write_card(whole, settings, model, state, report, nir, origin)
        (folder / "network.nir").unlink(missing_ok=True)
        # eval.json last: until then its digests are not those of the new weights, or it is missing.
        names = sorted((path.name for path in whole.iterdir()), key="eval.json".__eq__)
        for name in names:
            (whole / name).replace(folder / name)
    except BaseException:
        shutil.rmtree(whole, ignore_errors=True)
        if created and not any(folder.iterdir()):
            folder.rmdir()
        raise
    whole.rmdir()
    return sorted(folder / name for name in names)


def _write_card(folder, settings, model, state, report, nir, origin):
    from safetensors.numpy import save

    params = state.params if state.ema is None else state.ema
    variables = jax.device_get({"params": params, "batch_stats": state.batch_stats})
    settings = _portable(settings)
    arrays = {name: as_used(name, array, settings.dtype) for name, array in flat(variables).items()}
    check_finite(folder.parent, arrays)
    atomic_write(folder / "weights.safetensors", save(arrays, FORMAT))
    _write_json(folder / "config.json", config.to_json(settings))
    _write_json(folder / "eval.json", _finite(report) | {"sha256": _digests(folder)})
    spec = sets.spec(settings.dataset, settings.frame_size, settings.found)
    nir_note = "`network.nir` is the same network for other tools."
    if nir:
        try:
            write_nir(folder / "network.nir", settings, model, variables, spec.shape)
        except interchange.NotRepresentable as error:
            nir_note = f"It has no NIR file: {error}."
    else:
        nir_note = "`python eval.py --card FOLDER --export OTHER` adds the NIR file."
    text = page(settings, report, nir_note, origin)
    atomic_write(folder / "README.md", text.encode("utf-8", "replace"))


def _write_json(path, values):
    atomic_write(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def _finite(value):
    """The same values, numbers that JSON does not have as None."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _portable(settings):
    """A copy of settings without what is of a machine; a hub's name in init_from is kept."""
    source = settings.init_from
    settings = _without_local(settings)
    if HUB_NAME.fullmatch(source):
        settings.init_from = source
    kept = {key: value for key, value in settings.found.items() if key in DATASET_KEYS}
    with settings.unlocked():
        settings.found = ConfigDict(kept)
    return settings


def _without_local(settings):
    settings, base = settings.copy_and_resolve_references(), config.base_config()
    for key in config.LOCAL:
        settings[key] = base[key]
    return settings


def _digests(folder):
    """{file: sha256} of the files that eval.json is of."""
    digests = {}
    for name in TIED:
        with open(Path(folder) / name, "rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def markdown(text):
    """Text from elsewhere as one line of Markdown that shows it and does nothing else."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text)[:300])
    text = html.escape(text)
    # Marks of Markdown; @ and :// become links by themselves.
    special = r"[\\`*\[\]|~@]|:(?=//)|\.(?<=www\.)|(?<!\w)_|_(?!\w)"
    return re.sub(special, lambda mark: f"&#{ord(mark[0])};", text, flags=re.IGNORECASE)


def as_used(name, array, dtype):
    """A weight as it is kept: a kernel in bfloat16 where the network computes in it."""
    short = dtype == "bfloat16" and name.startswith("params/") and name.endswith("/kernel")
    return array.astype(jnp.bfloat16) if short else array


def write_nir(path, settings, model, variables, shape, **keys):
    """Write the network's NIR graph as an HDF5 file. Raises NotRepresentable."""
    options = config.neuron_options(settings)
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
        + (
            f", from the weights of `{settings.init_from}`."
            if HUB_NAME.fullmatch(settings.init_from)
            else "."
        ),
        "",
        "| split | examples | accuracy |",
        "|---|---|---|",
        *(
            f"| {markdown(name.replace('_', ' '))} | {row['examples']:,} | {row['accuracy']:.2%} |"
            for name, row in splits.items()
        ),
        "",
        f"Step {report['step']}, checkpoint: {markdown(report['checkpoint'])}"
        + (f", chosen on the {markdown(report['chosen_on'])} set" if report["chosen_on"] else "")
        + f". Energy of an example by the paper's rule "
        f"{report['energy']['paper']['energy_uj']:.4g} uJ, exactly "
        f"{report['energy']['exact']['energy_uj']:.4g} uJ; layer by layer in `eval.json`.",
        "",
        *(["| where from | |", "|---|---|"] if origin else []),
        *(f"| {markdown(what)} | {markdown(value)} |" for what, value in origin),
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


def right_answers(report):
    """The number of right answers on the test set."""
    return round(report["accuracy"] * report["examples"])


def agree(stated, measured):
    """Whether two reports have the same number of right answers of as many examples."""
    same = right_answers(stated) == right_answers(measured)
    return same and stated["examples"] == measured["examples"]


def agreement(stated, measured):
    """A line: whether what a card states of the test set is what was measured now.

    Args:
      stated, measured: what evaluation.report gives.
    """
    pairs = [f"{row['accuracy']:.2%} of {row['examples']:,}" for row in (stated, measured)]
    if agree(stated, measured):
        return f"agrees with the card: accuracy {pairs[0]} there, {pairs[1]} here"
    return (
        f"DIFFERS from the card: accuracy {pairs[0]} there, {pairs[1]} here: "
        f"{right_answers(stated):,} and {right_answers(measured):,} right answers"
    )


def flat_shapes(tree):
    """{"a/b/c": (shape, dtype)} of nested dicts of what has both."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(key.key for key in path): (leaf.shape, leaf.dtype) for path, leaf in leaves}


def weights(folder):
    """{"params/a/b/c": NumPy array} of a card, its batch_stats among them; bfloat16 as float32.

    Raises:
      CardError: the file is damaged, is not the one that was measured, or holds a tensor that is
        not finite or of another type than DTYPES.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(folder) / "weights.safetensors"
    for name, entry in _header(path).items():
        dtype = entry.get("dtype") if isinstance(entry, dict) else None
        if name != "__metadata__" and dtype not in DTYPES:
            raise CardError(
                f"{path}: the tensor {name!a:.100} has the type {dtype!a:.20}; "
                f"{', '.join(DTYPES)} expected"
            )
    try:
        with safe_open(path, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, TypeError, OSError) as error:
        raise CardError(f"{folder} is damaged: {error}") from error
    check_finite(folder, arrays)
    check_digests(folder)
    return {
        name: array.astype(np.float32) if array.dtype == jnp.bfloat16 else array
        for name, array in arrays.items()
    }


def _header(path):
    """The header of a safetensors file, {tensor: dtype, shape, offsets}; nothing else is read."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > MAX_HEADER:
                raise CardError(f"{path} is damaged: a header of {length:,} bytes")
            data = file.read(length)
        if len(data) < length:
            raise CardError(f"{path} is damaged: it ends inside its header")
        return strict_json.parse(data)
    except strict_json.JSONError as error:
        raise CardError(f"{path} is damaged: its header: {error}") from error
    except OSError as error:
        raise CardError(f"{path} cannot be read: {error.strerror}") from error


def check_finite(folder, arrays):
    """Raise CardError for a tensor with NaN or infinite values.

    An infinite threshold V of a folded norm is right: that channel fires always, or never.
    """
    for name, array in arrays.items():
        wrong = np.isnan(array) if name.endswith("/V") else ~np.isfinite(array)
        if wrong.any():
            raise CardError(
                f"{folder}: {int(wrong.sum()):,} of {array.size:,} values of {name} are not finite "
                "(NaN or infinite); the weights are damaged"
            )


def check_digests(folder):
    """Compare weights and config with the sha256 that eval.json holds, where it holds them.

    Returns:
      whether it holds them; cards of earlier versions do not.
    Raises:
      CardError: a file is not the one that was measured.
    """
    folder = Path(folder)
    if not (folder / "eval.json").is_file():
        return False
    try:
        stated = strict_json.read(folder / "eval.json").get("sha256")
        if stated is None:
            return False
        present = _digests(folder)
    except (strict_json.JSONError, OSError) as error:
        raise CardError(f"{folder} is damaged: {error}") from error
    for name, digest in present.items():
        if not isinstance(stated, dict) or stated.get(name) != digest:
            raise CardError(
                f"{folder}: {name} is not the file that eval.json was measured with (another "
                "sha256); get the whole card again"
            )
    return True


def read_settings(folder):
    """The config of a card; data_dir and all else that is of a machine have their defaults.

    Raises:
      ConfigError: as config.load.
    """
    return _without_local(config.load(folder))


def read_report(folder):
    """What eval.json of a card states, without its digests.

    Raises:
      CardError: it cannot be read, or a figure that is used is missing or of another type.
    """
    path = Path(folder) / "eval.json"
    try:
        report = strict_json.read(path)
    except (strict_json.JSONError, OSError) as error:
        raise CardError(f"{folder} is damaged: {error}") from error
    report.pop("sha256", None)
    count = lambda low: lambda v: type(v) is int and low <= v < 2**31  # noqa: E731
    expected = {
        "accuracy": (lambda v: type(v) in (int, float) and 0 <= v <= 1, "a number from 0 to 1"),
        "examples": (count(1), "an integer from 1"),
        "step": (count(0), "an integer from 0"),
        "checkpoint": (lambda v: v in ("newest", "best"), "newest or best"),
    }
    for key, (right, words) in expected.items():
        if key not in report:
            raise CardError(f"{path}: {key} is missing; {words} expected")
        if not right(report[key]):
            raise CardError(f"{path}: {key}={report[key]!a:.60}; {words} expected")
    return report


def check_arrays(folder, arrays, expected):
    """Raise CardError for the first array that a network does not have, or has otherwise.

    Args:
      arrays: {path: array}.
      expected: pytree {"params": ..., "batch_stats": ...} of what has shape and dtype.
    """
    wanted = flat_shapes(expected)
    present = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    for name in [*wanted, *present]:
        if wanted.get(name) != present.get(name):
            raise CardError(
                f"{folder}: {name!s:.200} is {present.get(name, 'missing')} in "
                f"weights.safetensors, {wanted.get(name, 'nothing')} by config.json"
            )


def _limit_batch(settings, devices):
    """Lower eval_batch_size of a card to what MAX_BATCH bytes hold.

    Raises:
      CardError: one example for each device is more.
    """
    spec = sets.spec(settings.dataset, settings.frame_size, settings.found)
    example = 4 * settings.timesteps * math.prod(spec.shape)
    most = MAX_BATCH // example // devices * devices
    if not most:
        raise CardError(
            f"timesteps={settings.timesteps} of {spec.shape} are {example:,} bytes for one "
            f"example; a card may need {MAX_BATCH:,} for one on each device"
        )
    settings.eval_batch_size = min(settings.eval_batch_size, most)


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
    settings = read_settings(folder)
    config.fit_batches(settings, jax.device_count())
    config.validate(settings, jax.device_count())
    _limit_batch(settings, jax.device_count())
    report = read_report(folder)
    arrays = weights(folder)
    if not check_digests(folder):
        print(f"{folder} is a card without sha256: its figures are not tied to its weights")
    program = training.make_program(settings, 1, training.make_mesh())
    shapes = jax.eval_shape(program.init)
    expected = {"params": shapes.params, "batch_stats": shapes.batch_stats}
    check_arrays(folder, arrays, expected)
    variables = jax.tree_util.tree_map_with_path(
        lambda path, _: arrays["/".join(key.key for key in path)], expected
    )
    state = training.TrainState(
        np.int32(report["step"]), variables["params"], variables["batch_stats"], (), None
    )
    return settings, program, jax.device_put(state, program.replicated), report
