"""Recipes, the files of configs/: which there are, and what a command line makes of one."""

import ast
import difflib
import os
import re
import traceback
from pathlib import Path

from ml_collections import ConfigDict, config_flags

from dalif_jax.settings import keys
from dalif_jax.settings.config import ConfigError, did_you_mean

FOLDER = Path(__file__).resolve().parents[2] / "configs"
# The keys that --help shows; keys.py has the others.
MAIN = (
    "model", "neuron", "dataset", "data_dir", "timesteps", "seed", "dtype", "epochs", "batch_size",
    "learning_rate", "warmup_epochs", "weight_decay", "augment", "membrane_bn", "validation_split",
)  # fmt: skip


def known():
    """{path from the working directory: first line of its docstring}, of every recipe."""
    return {
        os.path.relpath(path): (ast.get_docstring(ast.parse(path.read_bytes())) or "").split("\n")[
            0
        ]
        for path in [*sorted(FOLDER.glob("*.py")), *sorted(FOLDER.glob("*/*.py"))]
        if path.stem not in ("__init__", "base")
    }


def check(given):
    """Raise ConfigError where `given`, what --config names, is no file; with the nearest recipes.

    All that follows a colon is an argument of the recipe.
    """
    path = given.split(":", 1)[0]
    if Path(path).is_file():
        return
    names = {Path(there).stem: there for there in known()}
    close = difflib.get_close_matches(Path(path).stem.lower(), names, n=3, cutoff=0.5)
    what = "is a folder" if Path(path).is_dir() else "does not exist"
    raise ConfigError(
        f"--config={given} {what}; "
        + (f"did you mean {' or '.join(names[name] for name in close)}?" if close else
           f"the recipes are {', '.join(names.values())}")
    )  # fmt: skip


def raised_in_recipe(error):
    """The exception that a recipe raised, where `error` is what absl makes of it; else None.

    ml_collections raises it again with the traceback as its text, and absl raises that again.
    """
    wrapped = "Error whilst parsing config file"
    if wrapped not in str(error):
        return None
    while wrapped in str(error) and error.__context__ is not None:
        error = error.__context__
    return error


def failed(error, given):
    """ConfigError that names the line of the recipe `given` at which `error` was raised."""
    path, colon, argument = given.partition(":")
    if colon and isinstance(error, TypeError) and "get_config() takes 0" in str(error):
        return ConfigError(
            f"--config={given}: {path} takes no argument; remove {colon + argument!r}. Settings "
            "are changed with --config.KEY=VALUE"
        )
    if isinstance(error, SyntaxError):
        line = error.lineno
    else:
        frames = traceback.extract_tb(error.__traceback__)
        line = next(
            (f.lineno for f in reversed(frames) if Path(f.filename).name == Path(path).name), 0
        )
    return ConfigError(f"{path}, line {line}: {type(error).__name__}: {str(error).splitlines()[0]}")


def fit_warm_up(settings, overridden, flags):
    """Keep the share of a recipe's warm-up where only its epochs were made fewer.

    Args:
      settings: the config with what the command line overrides; changed.
      overridden: names of those keys.
      flags: absl's, in which an overridden key's default is the recipe's value.
    Returns:
      a line that says so, or None.
    """
    if "epochs" not in overridden or "warmup_epochs" in overridden:
        return None
    if not 1 <= settings.epochs <= settings.warmup_epochs:
        return None
    # Not by running the recipe again: pieces of one's own are added once.
    epochs, warm_up = flags["config.epochs"].default, settings.warmup_epochs
    settings.warmup_epochs = warm_up * settings.epochs / epochs
    return (
        f"warmup_epochs={settings.warmup_epochs:.4g}: the recipe's {warm_up:g} of "
        f"{epochs} epochs, as a share of {settings.epochs}"
    )


OWN = re.compile(r"--?config\.(\w+_options)\.(\w+)(?:=(.*))?")


def own_words(argv):
    """A command line without its --config.neuron_options.x=value and the like, and those as (key,
    option, text): what such an option is, only the piece knows that the whole line names."""
    rest, own, words = [], [], iter(argv)
    for word in words:
        found = OWN.fullmatch(word)
        if found:
            text = found[3] if found[3] is not None else next(words, "")
            own.append((found[1], found[2], text))
        else:
            rest.append(word)
    return rest, own


def set_own(settings, own):
    """Set what own_words found. Raises ConfigError for what no piece is told."""
    for key, option, text in own:
        piece = key.removesuffix("_options")
        if piece not in keys.PIECES:
            raise ConfigError(f"unknown config key {key!r}{did_you_mean(key, settings.keys())}")
        settings[key] = ConfigDict(settings[key].to_dict() | {option: _value(text)})


def settle(values, own):
    """What is left to do once absl has parsed a command line: options of pieces, the warm-up.

    Args:
      values: absl's flags with `config`; changed.
      own: of own_words.
    Returns:
      the line of fit_warm_up, or None.
    Raises:
      ConfigError: as set_own.
    """
    set_own(values.config, own)
    return fit_warm_up(values.config, config_flags.get_override_values(values["config"]), values)


def named_key(error):
    """The key that an error of ml_collections is of, which says neither where nor what there is;
    None where it names none."""
    key = re.search(r"[\"'](\w+)[\"']", str(error).replace("\\", ""))
    return key and key[1]


def _value(text):
    """2.0, True, (1, 2) and the like; else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def help_text():
    """How a recipe is named and its keys are set: every recipe, the main keys."""
    width = max(map(len, known()), default=0)
    lines = ["recipes, for --config:"]
    lines += [f"  {path:<{width}}  {first}" for path, first in known().items()]
    lines += [
        "",
        "keys, after --config, with their defaults before the recipe; all of them stand in "
        "dalif_jax/settings/keys.py:",
    ]
    text = Path(keys.__file__).read_text(encoding="utf-8")
    defaults = keys.get_config()
    for key in MAIN:
        about = re.search(rf"^    config\.{key} = .*?  # (.*)$", text, re.MULTILINE)
        value = str(defaults[key]).replace(" ", "")
        lines.append(
            f"  --config.{key}={value:<{max(1, 26 - len(key))}}  {about[1] if about else ''}"
        )
    return "\n".join(line.rstrip() for line in lines)
