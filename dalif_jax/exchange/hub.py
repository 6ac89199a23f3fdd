"""Cards by name from a hub: hub:OWNER/NAME, hub:OWNER/NAME@REVISION."""

import re

from dalif_jax.exchange.card import FILES, CardError

PREFIX = "hub:"
NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


def fetch(name):
    """The folder of a card named as hub:OWNER/NAME, its files alone; kept and found again in
    huggingface_hub's own cache (HF_HOME), also without a network (HF_HUB_OFFLINE=1).

    Raises:
      CardError: no such name, huggingface_hub is not installed, or the hub does not give it.
    """
    match = NAME.fullmatch(name.removeprefix(PREFIX))
    if not name.startswith(PREFIX) or not match:
        raise CardError(
            f"{name} names no card of a hub: hub:OWNER/NAME, or hub:OWNER/NAME@REVISION"
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise CardError(
            f"{name}: huggingface_hub is not installed; `pip install huggingface_hub`, or copy the "
            "card's folder and name that"
        ) from error
    repository, revision = match.groups()
    try:
        return snapshot_download(
            repository, revision=revision, allow_patterns=list(FILES), library_name="dalif_jax"
        )
    except Exception as error:  # of many kinds, of several libraries under it
        reason = " ".join(str(error).split())
        raise CardError(f"{name} cannot be had: {type(error).__name__}: {reason}") from error
