"""The compared networks' parameters, to the unit of their authors' code."""

import jax
import jax.numpy as jnp

from dalif_jax import networks, neurons
from dalif_jax.analysis import summary

IMAGE, SMALL, GESTURE, TA = (4, 224, 224, 3), (4, 32, 32, 3), (2, 128, 128, 2), (60, 32, 32, 2)
LIF, PLIF, GLIF, DIET = (
    {"neuron": "lif"},
    {"neuron": "plif"},
    {"neuron": "glif"},
    {"neuron": "diet"},
)
CSA = {"attention": "ma", "attention_options": {"axes": "CS"}, "pooled_shortcut": True}
PFA = {"attention": "pfa", "conv_bias": False, "pool_attention": True, "head_neuron": True}
ANN = {"norm": "none", "flatten": True, "integrate": True, "head_bias": False,
       "pooled_shortcut": False}  # fmt: skip
TDBN, STEM = {"norm": "tdbn"}, {"stem": ((3, 64, 1),)}
HEAD = {"hidden": 256, "hidden_neuron": True}


def ta(reduction):
    return {"attention": "ta", "attention_options": {"reduction": reduction}}


def ma(axes, time_reduction=5):
    options = {"axes": axes, "time_reduction": time_reduction}
    return {"attention": "ma", "attention_options": options}


# network, classes, input, what else, parameters: of the authors' code, neurons' own among them.
COUNTS = [
    ("sew_resnet18", 1000, IMAGE, LIF, 11_689_512), ("sew_resnet34", 1000, IMAGE, LIF, 21_797_672),
    ("net_7b", 11, GESTURE, LIF, 130_411), ("net_7b", 11, GESTURE, PLIF, 130_426),
    ("widenet_7b", 10, GESTURE, LIF, 1_192_202), ("widenet_7b", 10, GESTURE, PLIF, 1_192_218),
    ("widenet_7b_glif", 10, (16, 48, 48, 2), LIF, 1_202_442),
    ("widenet_7b_glif", 10, (16, 48, 48, 2), GLIF, 1_236_298),
    ("ms_resnet18", 1000, IMAGE, LIF, 11_693_736), ("ms_resnet34", 1000, IMAGE, LIF, 21_801_896),
    ("ms_resnet104", 1000, IMAGE, LIF, 77_350_504),
    ("ms_resnet18", 1000, IMAGE, LIF | CSA, 11_867_960),
    ("ms_resnet34", 1000, IMAGE, LIF | CSA, 22_116_552),
    ("ms_resnet104", 1000, IMAGE, LIF | CSA | {"stem": ((7, 64, 2),), "stem_bias": False},
     78_369_598),
    ("ds_resnet14", 10, SMALL, LIF | TDBN, 2_777_674),
    ("ds_resnet20", 10, SMALL, LIF | TDBN, 4_327_754),
    ("ds_resnet32", 10, SMALL, LIF | TDBN, 7_427_914),
    ("ds_resnet32", 10, SMALL, LIF | TDBN | {"n": 7}, 10_528_074),
    ("ds_resnet32", 10, SMALL, LIF | TDBN | {"n": 11}, 16_728_394),
    ("ds_resnet20_gesture", 11, (2, 32, 32, 2), LIF | TDBN, 272_395),
    ("ds_resnet14", 10, (2, 42, 42, 2), LIF | TDBN | {"widths": (32, 64, 128)}, 696_330),
    ("resnet19", 10, SMALL, LIF | STEM | HEAD | {"head_neuron": True}, 12_630_858),
    ("resnet19", 100, SMALL, LIF | STEM | HEAD | {"head_neuron": True}, 12_653_988),
    ("resnet19", 10, SMALL, LIF | STEM, 12_502_090),
    ("resnet19", 100, SMALL, LIF | STEM, 12_548_260),
    ("resnet19", 10, SMALL, LIF, 12_569_226), ("resnet19", 100, SMALL, LIF, 12_615_396),
    ("resnet19", 10, SMALL, LIF | HEAD, 12_697_994),
    ("resnet19", 100, SMALL, LIF | HEAD, 12_721_124),
    ("resnet19", 10, (2, 32, 32, 2), LIF | STEM | HEAD, 12_630_282),
    ("resnet19", 10, (2, 32, 32, 2), LIF | HEAD, 12_696_842),
    ("resnet17", 11, (2, 32, 32, 2), LIF, 11_228_427),
    ("vggsnn", 10, (2, 48, 48, 2), LIF, 9_271_498),
    ("vggsnn", 10, (2, 48, 48, 2), LIF | {"conv_bias": False}, 9_268_746),
    ("vggsnn", 10, (2, 48, 48, 2), LIF | {"strided": True}, 9_271_498),
    ("vggsnn", 10, (12, 48, 48, 2), LIF | PFA, 9_284_986),
    ("vggsnn", 10, (10, 48, 48, 2), LIF | PFA | {"attention_options": {"rank": 64}}, 9_392_266),
    ("vggsnn", 110, (20, 128, 128, 2), LIF | PFA | {"attention_options": {"rank": 32}}, 12_905_006),
    ("resnet20", 10, SMALL, LIF | ANN, 11_253_440), ("resnet20", 100, SMALL, LIF | ANN, 11_437_760),
    ("resnet20", 10, SMALL, DIET | ANN, 11_253_478),
    ("resnet20", 100, SMALL, DIET | ANN, 11_437_798),
    ("plifnet_gesture", 11, GESTURE, LIF, 1_698_304),
    ("plifnet_gesture", 11, GESTURE, PLIF, 1_698_311),
    ("plifnet_dvs", 10, GESTURE, LIF, 17_427_712), ("plifnet_dvs", 10, GESTURE, PLIF, 17_427_718),
    ("plifnet_cifar10", 10, SMALL, LIF, 36_718_336),
    ("plifnet_cifar10", 10, SMALL, PLIF, 36_718_344),
    ("plifnet_gesture", 11, GESTURE, PLIF | {"head_bias": True}, 1_698_926 + 7),
    ("plifnet_dvs", 10, GESTURE, LIF | {"head_bias": True, "hidden": 512}, 4_691_812),
    ("plifnet_gesture", 11, (20, 128, 128, 2), PLIF | {"head_bias": True, "attention": "asa"},
     1_701_123),
    ("three_conv", 11, TA, LIF, 2_324_065),
    ("three_conv", 11, TA, LIF | {"head_norm": False}, 2_323_531),
    ("five_conv", 10, GESTURE, LIF, 2_097_918),
    *(
        ("three_conv", 11, (T, 32, 32, 2), LIF | ta(16), count)
        for T, count in ((60, 2_326_180), (30, 2_324_520), (20, 2_324_370))
    ),
    ("five_conv", 10, (10, 128, 128, 2), LIF | ta(5), 2_098_282),
    *(
        ("three_conv", 11, (T, 32, 32, 2), LIF | ma(axes), count)
        for T, counts in (
            (60, (2_331_265, 2_333_281, 2_324_119, 2_340_481, 2_331_319, 2_333_335, 2_340_535)),
            (20, (2_324_865, 2_333_281, 2_324_119, 2_334_081, 2_324_919, 2_333_335, 2_334_135)),
        )
        for axes, count in zip(("T", "C", "S", "TC", "TS", "CS", "TCS"), counts, strict=True)
    ),
    ("five_conv", 10, (20, 128, 128, 2), LIF | ma("TCS", 2), 2_188_104),
    ("three_conv", 11, TA, LIF | {"attention": "asa", "head_norm": False,
                                  "attention_options": {"reduction": 4}}, 2_329_045),
    ("fast", 10, SMALL, LIF, 2_295_114),
    ("sts_transformer", 11, (10, 128, 128, 2), LIF, 1_567_345),
    ("sts_transformer", 11, (16, 128, 128, 2), LIF, 1_572_745),
    ("sts_transformer", 10, (16, 128, 128, 2), LIF, 1_572_488),
]  # fmt: skip


def built(name, classes, keys, dtype=jnp.float32, **told):
    keys = dict(keys)
    options = neurons.options(keys.pop("neuron"), **told)
    return networks.build(name, classes, options, dtype, **keys)


def parameters(model, shape):
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, *shape))))
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_parameters_to_the_unit():
    """All at once: a network is built in a blink, a test each takes longer."""
    for name, classes, shape, keys, count in COUNTS:
        told = {"per_channel": True} if keys["neuron"] == "glif" else {}
        assert parameters(built(name, classes, keys, **told), shape) == count, (name, keys)
    assert {name for name, *_ in COUNTS} >= set(networks.NETWORKS) - {
        "resnet18", "resnet34", "vgg16", "vgg11", "small", "mini", "tiny"
    }  # fmt: skip


def test_parts_of_sts_transformer():
    """Attention 268,723 and MLP 132,608 a block, stem 761,856, head 2,827."""
    model = built("sts_transformer", 11, LIF)
    rows = summary.layers(model, (10, 128, 128, 2))
    found = {"stem": 0, "mlp": 0, "attention": 0, "head": 0}
    for row in rows:
        block, _, name = row.name.partition("/")
        part = block[:4] if block[:4] in found else "mlp" if name[:3] == "mlp" else "attention"
        found[part] += row.parameters
    assert found == {"stem": 761_856, "mlp": 2 * 132_608, "attention": 2 * 268_723, "head": 2_827}
