"""Settings of a sweep: every combination of given values, or random draws from given ranges.

    --grid learning_rate=0.05,0.1 --grid timesteps=2,4       four settings, the first the reference
    --draw learning_rate=log:0.01:0.3 --draw timesteps='1|2|4' --trials 10       ten and the recipe

A range is `low:high`, or `log:low:high` for equal shares of every factor; of whole numbers, both
ends included, where both ends are written so (`1:8`, not `1.0:8`); `a|b|c` is a choice. What trial
i draws for a key is a function of the draw seed, i and the key alone: more trials keep the earlier
ones, and a further key leaves the others' values as they are.
"""

import hashlib
import itertools
import math
from typing import NamedTuple

from ablations.checking import check_key
from dalif_jax.settings.config import ConfigError

RECIPE = "recipe"  # the reference of draws: the recipe as it stands
DIGITS = 3  # of a drawn number, more where its range is narrow
LONGEST = 255  # bytes of a folder's name
FORMS = "low:high, log:low:high or a|b|c expected"


class Sweep(NamedTuple):
    """What is trained."""

    settings: dict  # {name: {key: text}}, the reference first
    axes: dict  # {key: log, linear or named}, how its values lie in a picture


class Range(NamedTuple):
    """What a key is drawn from: numbers of low..high, whole or not."""

    low: float
    high: float
    log: bool
    whole: bool

    def at(self, share):
        """The number at a share of the range, as text; `share` in 0..1, 1 left out."""
        low, high = self.low, self.high
        if self.whole:
            # Number n has the stretch from n to n + 1.
            if self.log:
                return str(min(int(low * ((high + 1) / low) ** share), high))
            return str(low + int(share * (high + 1 - low)))
        value = low * (high / low) ** share if self.log else low + share * (high - low)
        wide = max(abs(low), abs(high)) / (high - low)
        text = f"{value:.{DIGITS + max(0, int(math.log10(wide)))}g}"
        # Rounded, it may lie outside.
        return text if low <= float(text) <= high else repr(low if float(text) < low else high)


class Choice(NamedTuple):
    """What a key is drawn from: words, equally often."""

    words: tuple

    def at(self, share):
        return self.words[int(share * len(self.words))]


def grid(words):
    """Sweep of every combination, the last key fastest; the first values are the reference.

    Args:
      words: of --grid, "key=a,b,c" each.
    Raises:
      ConfigError: a word is none, a key is unknown or given twice, or has fewer than two values.
    """
    values = {
        key: several(f"--grid {key}={text}", key, text.split(","), "a,b,c")
        for key, text in keyed("--grid", words, "key=a,b,c").items()
    }
    every = (dict(zip(values, row, strict=True)) for row in itertools.product(*values.values()))
    return Sweep({name_of(keys): keys for keys in every}, dict.fromkeys(values, "named"))


def draws(words, trials, seed):
    """Sweep of the recipe and of `trials` draws; a draw that comes again is one setting.

    Args:
      words: of --draw, "key=low:high" and the like each.
      trials: how many draws.
      seed: of the draws.
    Raises:
      ConfigError: a word is none, a key is unknown or given twice, a range is none, no trials.
    """
    if trials is None or trials < 1:
        given = "" if trials is None else f"={trials}"
        raise ConfigError(f"--trials{given}: how many draws, at least 1, expected with --draw")
    spaces = {
        key: space(key, text)
        for key, text in keyed("--draw", words, "key=low:high or key=a|b|c").items()
    }
    settings = {RECIPE: {}}
    for trial in range(trials):
        keys = {key: found.at(share(seed, trial, key)) for key, found in spaces.items()}
        settings[name_of(keys)] = keys
    kinds = {
        key: "named" if isinstance(found, Choice) else "log" if found.log else "linear"
        for key, found in spaces.items()
    }
    return Sweep(settings, kinds)


def share(seed, trial, key):
    """A number of 0..1, 1 left out, that looks random and is a function of these three alone."""
    # Not of NumPy: what its generators give may change with its version.
    digest = hashlib.sha256(f"{seed}/{trial}/{key}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def space(key, text):
    """The Range or Choice that a word of --draw gives for a key.

    Raises:
      ConfigError: it is neither, or an empty or impossible one.
    """
    where = f"--draw {key}={text}"
    if "|" in text:
        return Choice(several(where, key, text.split("|"), "a|b|c"))
    log = text.startswith("log:")
    ends = text.removeprefix("log:").split(":")
    if len(ends) != 2:
        raise ConfigError(f"{where}: {FORMS}")
    low, high = (number(where, end) for end in ends)
    if low >= high:
        raise ConfigError(f"{where}: the low end {ends[0]} must be below the high end {ends[1]}")
    if log and low <= 0:
        raise ConfigError(f"{where}: both ends of a log range must be above 0")
    return Range(low, high, log, isinstance(low, int) and isinstance(high, int))


def number(where, text):
    """An int where it is written as one, else a float. Raises ConfigError."""
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if math.isfinite(value):
            return value
    raise ConfigError(f"{where}: {text!r} is no finite number; {FORMS}")


def several(where, key, values, form):
    """The values of a key, checked: at least two, none empty or twice. Raises ConfigError."""
    if "" in values:
        raise ConfigError(f"{where}: an empty value; {form} expected")
    if len(values) < 2:
        raise ConfigError(
            f"{where}: one value, nothing to compare; --config.{key}={values[0]} gives it to all"
        )
    if len(set(values)) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise ConfigError(f"{where}: {twice} is there twice")
    return tuple(values)


def keyed(flag, words, form):
    """{key: text} of "key=text" words. Raises ConfigError for no such word, or no such key."""
    found = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not (key and equals and text):
            raise ConfigError(f"{flag} {word}: {form} expected")
        check_key(flag, key)
        if key in found:
            raise ConfigError(f"{flag} {word}: {key} is there twice")
        found[key] = text
    return found


def name_of(keys):
    """A setting's name, "learning_rate=0.1,timesteps=2", which is that of its folder.

    Raises:
      ConfigError: it is too long for one.
    """
    name = ",".join(f"{key}={value}" for key, value in keys.items())
    if max(len(part.encode()) for part in name.split("/")) > LONGEST:
        raise ConfigError(f"{name}: longer than {LONGEST} bytes, no folder's name; fewer keys")
    return name
