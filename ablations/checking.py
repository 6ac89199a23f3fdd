"""Settings of a series, checked as train.py checks them, before the first of them is trained."""

import contextlib
import copy
import io
import runpy

from absl import flags
from ml_collections import config_flags

from dalif_jax.data import sets
from dalif_jax.settings import config as configs
from dalif_jax.settings import recipes
from dalif_jax.settings.config import ConfigError
from dalif_jax.settings.keys import PIECES
from dalif_jax.settings.keys import get_config as base_config

# What a series gives every run itself.
TAKEN = {"seed": "every setting is trained with --seeds seeds"}


def check_key(flag, key):
    """Refuse what is no key of the config, or is not a sweep's to set.

    Args:
      flag: where it was given, for the message.
      key: "learning_rate", "neuron_options.tau".
    Raises:
      ConfigError: with the nearest key that there is.
    """
    if key in TAKEN:
        raise ConfigError(f"{flag} {key}: {TAKEN[key]}")
    first, dot, option = key.partition(".")
    if first not in base_config():
        raise configs.unknown_key(first, f"in {flag}")
    if dot and not (first in {f"{piece}_options" for piece in PIECES} and option.isidentifier()):
        raise ConfigError(f"{flag} {key}: {first} is a key without parts")


def check(recipe, rest, settings):
    """Refuse a series of which a setting would be refused by train.py.

    Args:
      recipe: a file of configs/.
      rest: words --config.key=value of every run.
      settings: {name: {key: value}}.
    Raises:
      ConfigError: names the first setting that is wrong, its key and what would be right.
    """
    try:
        # Once: pieces of one's own, which a recipe may add, are added once.
        whole = runpy.run_path(recipe)["get_config"]()
    except Exception as error:
        raise recipes.failed(error, recipe) from error
    try:
        for name, keys in settings.items():
            words = [*rest, *(f"--config.{key}={value}" for key, value in keys.items())]
            try:
                check_one(whole, words)
            except (ConfigError, sets.DataError) as error:
                raise ConfigError(f"{name}: {error}") from error
    finally:
        sets.look_at_images.cache_clear()  # it holds a set's images, and the runs need the room


def check_one(whole, words):
    """Refuse one run. Raises ConfigError, and DataError where its own set is not there."""
    settings = configured(whole, words)
    with contextlib.redirect_stderr(io.StringIO()):  # warnings are the runs' to give
        configs.find(settings)
        configs.validate(settings)


def configured(whole, words):
    """The config that train.py makes of a recipe and the words behind it.

    Args:
      whole: the recipe's config, left as it is.
      words: --config.key=value each, the last of a key counts.
    Raises:
      ConfigError: no such key, or a value of another type.
    """
    argv, own = recipes.own_words(["train.py", *words])
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict(
            "config", copy.deepcopy(whole), flag_values=values, lock_config=True, sys_argv=argv
        )
        values(argv)
        recipes.settle(values, own)
    except flags.Error as error:
        raise ConfigError(str(error).removeprefix("flag --config.")) from error
    except (AttributeError, KeyError) as error:
        key = recipes.named_key(error)
        if not key:
            raise ConfigError(str(error)) from error
        raise configs.unknown_key(key, "on the command line") from error
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error)) from error
    return values.config
