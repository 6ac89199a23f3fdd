"""G. Every convolution of the step's networks in each of its forms: what the choice rests on.

    PYTHONPATH=.:benchmarks python benchmarks/convolution.py [--dtype bfloat16]

All forms give the same result (tests/test_convolution.py); which is the fastest depends on the
shape, the machine and the compiler, so look again after an upgrade of jax.
"""

import argparse
import collections
import functools
import math

import jax
import measure
from jax_worker import Events, Step
from step import CASES

from dalif_jax.ops import convolution, products


class Form(measure.InProcess):
    """One form on one shape."""

    def __init__(self, name, form, arguments):
        compiled = jax.jit(form).lower(*arguments).compile()
        super().__init__(name, lambda: jax.block_until_ready(compiled(*arguments)))


def shapes_of(network, timesteps, size, channels, classes, batch):
    """{(x's shape, kernel's shape, strides, padding): how many} of a network's convolutions."""
    spec = {
        "network": network, "timesteps": timesteps, "size": size, "channels": channels,
        "classes": classes, "batch": batch, "dtype": "float32",
        "dataset": "imagenet" if size == 224 else "cifar10",
    }  # fmt: skip
    side = (Events if network == "vgg11" else Step)(spec)
    side.build()
    found = collections.Counter()
    for x, out, kernel in side.convolutions():
        stride = x[-2] // out[-2]
        padding = ((kernel[0] // 2,) * 2, (kernel[1] // 2,) * 2)
        found[(math.prod(x[:-3]), *x[-3:]), kernel, (stride, stride), padding] += 1
    return found


def forms_of(kernel, strides, padding):
    """{what is computed: {name: function of (x, kernel, the output's gradient)}}."""
    told = {"strides": strides, "padding": padding}
    whole = {
        form.__name__: functools.partial(form, **told)
        for form in (convolution.compiler, products.products, products.written)
    }

    def pulled(form, place):
        return lambda x, kernel, g: jax.vjp(form, x, kernel)[1](g)[place]

    def own(form):
        return lambda x, kernel, g: form(x, g, kernel.shape[:2], **told)

    forward = {name: lambda x, k, g, f=form: f(x, k) for name, form in whole.items()}
    del whole["written"]  # it is not differentiated: its two gradients are forms of their own
    weight = {name: pulled(form, 1) for name, form in whole.items()}
    inputs = {name: pulled(form, 0) for name, form in whole.items()}
    if kernel[:2] != (1, 1):
        weight |= {form.__name__: own(form) for form in (products.patches, products.turned)}
        if strides == (1, 1):
            weight["shifted"] = own(products.shifted)
            inputs["written_input"] = functools.partial(products.written_input, **told)
    return {"forward": forward, "input gradient": inputs, "weight gradient": weight}


def in_use(place, shapes, dtype):
    """The name of the form that a train step on a CPU takes."""
    form = {
        "forward": convolution.forward_form,
        "input gradient": convolution.input_form,
        "weight gradient": convolution.weight_form,
    }[place]
    return form(*shapes, dtype).__name__


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a network of the list")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    arguments, conditions = measure.parse(parser)

    places = collections.defaultdict(list)
    for network, timesteps, size, channels, classes, batch, _ in CASES:
        if arguments.only in ("", network):
            shapes = shapes_of(network, timesteps, size, channels, classes, batch)
            for shape, count in shapes.items():
                places[shape].append([f"{network} T={timesteps}", count])
    a = jax.random.normal(jax.random.key(0), (2048, 2048)).astype(arguments.dtype)
    product = Form("product", jax.numpy.matmul, (a, a))
    seconds = measure.alternate([product], 1, 10)["product"]["median_s"]
    conditions["product_gflops"] = 2e-9 * 2048**3 / seconds
    records = []
    for shapes, where in places.items():
        x_shape, kernel_shape, strides, padding = shapes
        out = (x_shape[0], *products.output_size(*shapes), kernel_shape[3])
        keys = jax.random.split(jax.random.key(0), 3)
        given = [
            jax.random.normal(k, s).astype(arguments.dtype)
            for k, s in zip(keys, (x_shape, kernel_shape, out), strict=True)
        ]
        flops = 2 * given[2].size * kernel_shape[0] * kernel_shape[1] * kernel_shape[2]
        for place, forms in forms_of(kernel_shape, strides, padding).items():
            sides = [Form(name, form, given) for name, form in forms.items()]
            steps = max(2, min(30, int(4e9 / flops)))
            timings = measure.alternate(sides, arguments.rounds, steps)
            records.append({
                "x": x_shape, "kernel": kernel_shape, "stride": strides[0], "of": place,
                "networks": where, "flops": flops, "in_use": in_use(place, shapes, arguments.dtype),
                "form_gflops": {k: 1e-9 * flops / v["median_s"] for k, v in timings.items()},
            })  # fmt: skip
            print(records[-1], flush=True)
    name = "convolution_cpu" + "_bfloat16" * (arguments.dtype == "bfloat16")
    measure.write(name, records, jax=jax.__version__, **conditions)


if __name__ == "__main__":
    main()
