"""All systems under one recipe: each piece alone on one baseline, each system as its paper has it.

    python -m ablations.systems --config configs/digits.py --workdir runs/systems --seeds 2

The recipe is the host. On it `lif`, a plain leaky neuron, is the baseline; `neuron-plif`,
`norm-tdbn`, `loss-tet`, `surrogate-tanh` or `attention-ta` changes one piece of it and nothing
else; `plif`, `tdbn` or `tet` is the system with its paper's surrogate, threshold and learning rate
(configs/systems.py), `ta`, `ma`, `asa` or `pfa` an attention with the neuron of its paper's
network (configs/event_systems.py). `results.json` in the workdir is what docs/systems.md is made
from; a run that fails is a row with its reason.
"""

from flax.traverse_util import flatten_dict

from ablations.ranking import rank
from ablations.runs import arguments, series
from configs import event_systems
from configs.systems import SYSTEMS
from dalif_jax import attention, losses, neurons, norms, surrogates

BASELINE = "lif"
TABLES = {
    "neuron": neurons.NEURONS, "norm": norms.NORMS, "loss": losses.LOSSES,
    "surrogate": surrogates.SURROGATES, "attention": attention.ATTENTION,
}  # fmt: skip
# What the baseline takes of each; the recipe's own would make one change two.
PLAIN = {
    "neuron": "lif", "norm": "batch", "loss": "cross_entropy", "surrogate": "rectangle",
    "attention": "none",
}  # fmt: skip
# Attention over time asks for more timesteps than most hosts have: half of them wide, it fits all.
NARROW = {
    "attention-ta": {"attention_options.reduction": 2},
    "attention-ma": {"attention_options.time_reduction": 2},
}
# Papers have attention in networks of their own; the neurons of those, with their constants, fit a
# host.
OF_NETWORK = {
    "ta": "three_conv_ta", "ma": "three_conv_ma", "asa": "three_conv_asa", "pfa": "pfa_vgg",
}  # fmt: skip
RECIPE = (
    "model", "model_options", "loss", "optimizer", "learning_rate", "weight_decay", "batch_size",
)  # fmt: skip
WHOLE = SYSTEMS | {
    name: {key: v for key, v in event_systems.SYSTEMS[network].items() if key not in RECIPE}
    for name, network in OF_NETWORK.items()
}
# It acts on spikes, in front of each stage as in configs/table1/pfa_cifar10_r19.py.
WHOLE["pfa"] |= {"model_options": {"stage_attention": True}}
SAME = ("both",)  # another name of dalif, an arm of the paper's Fig. 2
# The paper's own claims, each a step from neuron-dalif.
DALIF = {
    "dalif-channels": {"per_channel": True},
    "dalif-membrane_bn": {"membrane_bn": True},
    "dalif-channels-membrane_bn": {"per_channel": True, "membrane_bn": True},
}


def settings():
    """{name: {key: value}} of everything that a host may be trained with."""
    out = {BASELINE: dict(PLAIN)}
    for kind, pieces in TABLES.items():
        for name in pieces:
            if name != PLAIN[kind] and name not in SAME:
                key = f"{kind}-{name}"
                out[key] = PLAIN | {kind: name} | NARROW.get(key, {})
    for name, keys in DALIF.items():
        out[name] = PLAIN | {"neuron": "dalif"} | keys
    return out | {name: flatten_dict(keys, sep=".") for name, keys in WHOLE.items()}


def kind_of(name):
    """neuron, norm, loss, surrogate, attention, dalif, system, or baseline: what a setting is."""
    if name == BASELINE:
        return "baseline"
    kind, dash, _ = name.partition("-")
    return kind if dash else "system"


def main():
    every = settings()
    given, rest = arguments(__doc__, seeds=2, choices={"systems": tuple(every)})
    records = series(given, rest, {name: every[name] for name in given.systems}, keep_failed=True)
    if BASELINE not in given.systems:
        print(f"{BASELINE}, the baseline, is not among --systems: nothing is compared")
        return
    for row in rank(records, BASELINE):
        print(row.text())


if __name__ == "__main__":
    main()
