"""Layers that no longer compute: silent ones, which send nothing, and saturated ones, which always
fire and so send the same."""

# Spikes a neuron and timestep, of the largest spike there is.
SILENT, SATURATED = 0.001, 0.9
ABOUT = {
    "silent": f"fired below {SILENT:.1%} of the time, so little passes them",
    "saturated": f"fired above {SATURATED:.0%} of the time, so all looks alike behind them",
}
CURES = {
    "silent": "a lower threshold, a wider surrogate (surrogate_width, or arctan, whose tails reach "
    "every membrane), a norm in front (norm=batch, tdbn); after a good start, a smaller "
    "learning_rate or a longer warm-up",
    "saturated": "a higher threshold, a norm in front (norm=batch, tdbn), weight_decay, a smaller "
    "learning_rate",
}


def ill(layers, levels=1):
    """{"silent": names, "saturated": names} of neuron layers, by depth; a kind that has none is
    left out.

    Args:
      layers: {name: {"firing_rate": spikes a neuron and timestep}}, as an evaluation gives it.
      levels: the largest spike (Neuron.levels); 0, real numbers, has no rate to judge.
    """
    if not levels:
        return {}
    found = {
        "silent": [n for n, row in layers.items() if row["firing_rate"] < SILENT],
        "saturated": [n for n, row in layers.items() if row["firing_rate"] > SATURATED * levels],
    }
    return {kind: names for kind, names in found.items() if names}


def lines(found):
    """What `ill` found as sentences, a line a kind."""
    return [
        f"{kind}: {', '.join(names)} {ABOUT[kind]}; usual cures: {CURES[kind]}"
        for kind, names in found.items()
    ]


class Watch:
    """Tells of ill layers when they fall ill, not again every epoch."""

    def __init__(self, levels=1):
        self._levels, self._before = levels, {}

    def __call__(self, layers):
        """(what `ill` finds, the lines that are news)."""
        found = ill(layers, self._levels)
        news = {kind: names for kind, names in found.items() if names != self._before.get(kind)}
        self._before = found
        return found, lines(news)
