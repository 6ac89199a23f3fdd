"""The train step compiled for an H200 and a TPU v5e without the device: memory, work, collectives.

    pip install jax-cuda13-plugin==JAX jax-cuda13-pjrt==JAX nvidia-cuda-nvcc nvidia-nvvm
    python benchmarks/compiled.py h200
    python benchmarks/compiled.py h200 --recipes   # compared systems, at their recipes' batches
    pip install libtpu==0.0.42.1          # in another environment
    python benchmarks/compiled.py v5e

Both beside requirements.txt, JAX being the version of jax there. It says what the compiler plans
(peak memory, bytes and operations of one device, all-reduces), not how long it takes: no time here
but of compiling.
"""

import argparse
import itertools
import math
import os
import re
import runpy
import time

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}
os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")

import jax
import jax.numpy as jnp
import measure
from jax.experimental import topologies
from jax_worker import events_step

from configs.base import get_config
from dalif_jax import networks, training
from dalif_jax.data import sets
from dalif_jax.ops import fused
from dalif_jax.settings import recipes

# The H200's published numbers, and what openxla/xla's target_config/specs/h200.txtpb says of it.
H200 = """
gpu_device_info {
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132 fpus_per_core: 128
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  memory_bandwidth: 4800000000000 l2_cache_size: 52428800 clock_rate_ghz: 1.98
  device_memory_size: 151397597184 shared_memory_per_block_optin: 232448
  cuda_compute_capability { major: 9 feature_extension: ACCELERATED_FEATURES }
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  device_vendor: "NVIDIA Corporation" device_address_bits: 64 ecc_enabled: true
  name: "NVIDIA H200" driver_version: "13.0.0" runtime_version: "13.0.0"
  compile_time_toolkit_version: "13.0.0" dnn_version: "9.10.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 patch: 0 }
device_description_str: "NVIDIA H200"
"""

# network, timesteps, height and width, channels, classes, images a device
CASES = (
    ("resnet20", 2, 32, 3, 10, 512),
    ("resnet20", 4, 32, 3, 10, 256),
    ("resnet19", 2, 32, 3, 10, 128),
    ("resnet18", 4, 224, 3, 1000, 64),
    ("resnet34", 4, 224, 3, 1000, 32),
    ("vgg11", 16, 128, 2, 11, 16),
)
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


def devices_of(target, count):
    if target == "h200":
        described = topologies.get_topology_desc(
            platform="cuda", target_config=H200, topology=f"1x1x{count}"
        )
    else:
        described = topologies.get_topology_desc("v5e:2x2", platform="tpu")
    return list(described.devices)[:count]


# A plan is made before code is: without LLVM's and the assembler's dearer passes it is the same.
PLAN = {
    "xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True,
    "xla_gpu_disable_gpuasm_optimizations": True,
}  # fmt: skip


def figures(lowered, devices, options=None):
    started = time.perf_counter()
    compiled = lowered.compile(compiler_options=options)
    memory, text = compiled.memory_analysis(), compiled.as_text()
    cost = compiled.cost_analysis() or {}  # the CUDA compiler gives none without a device
    counts = {kind: len(re.findall(rf"= [^=]*\b{kind}(?:-start)?\(", text)) for kind in COLLECTIVES}
    return {
        "compile_s": time.perf_counter() - started,
        "devices": devices,
        "temp_bytes": memory.temp_size_in_bytes,
        # Donated arguments are outputs too: they are counted once.
        "peak_bytes": memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes,
        "flops": cost.get("flops"),
        "bytes_accessed": traffic(text),
        "kernels": len(re.findall(r"= [^=]*\b(?:fusion|custom-call)\(", text)),
        "collectives": {kind: count for kind, count in counts.items() if count},
    }, text


def traffic(text):
    """Bytes that the program's top level reads and writes: what each kernel takes and gives."""
    sizes = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4}

    def size(shape):
        return sum(
            sizes.get(kind, 0) * math.prod(int(n) for n in dims.split(",") if n)
            for kind, dims in re.findall(r"(\w+)\[([\d,]*)\]", shape)
        )

    entry = text[text.index("ENTRY ") :]
    result, total = {}, 0
    for name, shape, kind, operands in re.findall(
        r"%([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\(([^)]*)\)", entry
    ):
        result[name] = size(shape)
        free = ("parameter", "tuple", "get-tuple-element", "bitcast", "constant")
        if kind in free or kind.endswith("-done"):
            continue
        total += result[name]
        if name.startswith(("slice", "wrapped_slice")):
            total += result[name]  # it reads what it gives, not all it could
            continue
        total += sum(result.get(operand, 0) for operand in re.findall(r"%([\w.-]+)", operands))
    return total


def lower_step(case, devices, **overrides):
    network, timesteps, size, channels, classes, batch = case
    mesh = training.make_mesh(devices)
    config = get_config()
    config.update({"model": network, "timesteps": timesteps, "dtype": "bfloat16"})
    config.update({"batch_size": batch * len(devices), "augment": ()})
    config.dataset = "imagenet" if size == 224 else "cifar10"
    config.update(overrides)
    program = training.make_program(config, 4, mesh)

    def argument(shape, dtype, sharding):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    if network == "vgg11":
        model = networks.build(
            network, classes, dtype=jnp.bfloat16, mesh=mesh, pallas=networks.KERNELS[config.kernel]
        )
        shape = (config.batch_size, timesteps, size, size, channels)
        state, step = events_step(
            model, config, program.optimizer, shape, devices[0].platform, abstract=True
        )
        state = jax.tree.map(
            lambda leaf: argument(leaf.shape, leaf.dtype, program.replicated), state
        )
        x = argument(shape, jnp.bfloat16, program.sharded)
        labels = argument((config.batch_size,), jnp.int32, program.sharded)
        return jax.jit(step, donate_argnums=0).trace(state, x, labels, None).lower()
    # A set on the devices, or for ImageNet the streamed batch.
    streamed = config.dataset == "imagenet"
    examples = config.batch_size if streamed else 2 * config.batch_size
    where = program.sharded if streamed else program.replicated
    images = argument((examples, size, size, channels), jnp.uint8, where)
    labels = argument((examples,), jnp.int32, where)
    order = None
    if not streamed:
        order = argument((4, config.batch_size), jnp.int32, program.order_sharding)
    state = training.abstract_state(program)
    return program.train_step.trace(state, images, labels, order).lower()


def recipes_of():
    """The compared systems' recipes, one for each network with each attention."""
    found = {}
    paths = [sorted((recipes.FOLDER / f).glob("*.py")) for f in ("table2", "authors", "table1")]
    for path in itertools.chain(*paths):
        if path.stem == "__init__":
            continue
        config = runpy.run_path(str(path))["get_config"]()
        found.setdefault((config.model, config.attention), path)
    return list(found.values())


def lower_recipe(path, devices):
    """A recipe's step in bfloat16 at its own batch, with two batches of its data on the device."""
    config = runpy.run_path(str(path))["get_config"]()
    config.dtype = "bfloat16"
    spec = sets.spec(config.dataset, config.frame_size)
    program = training.make_program(config, 4, training.make_mesh(devices))
    examples = config.batch_size * (1 if spec.streamed else 2)
    where = program.sharded if spec.streamed else program.replicated

    def argument(shape, dtype, sharding):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    frames = (config.timesteps,) if spec.events else ()
    images = argument((examples, *frames, *spec.shape), jnp.uint8, where)
    labels = argument((examples,), jnp.int32, where)
    order = None
    if not spec.streamed:
        order = argument((4, config.batch_size), jnp.int32, program.order_sharding)
    state = training.abstract_state(program)
    return program.train_step.trace(state, images, labels, order).lower(), config


def lower_neuron(timesteps, devices, kernel):
    """One layer forward and backward on 2^26 values, as the neuron benchmark times it."""
    mesh = training.make_mesh(devices)
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    mesh = mesh if kernel == "pallas" else None
    shape = (2**26 // (timesteps * 32 * 32 * 64), timesteps, 32, 32, 64)
    x = jax.ShapeDtypeStruct(shape, jnp.bfloat16, sharding=sharding)
    decay = jax.ShapeDtypeStruct((), jnp.float32, sharding=whole)

    def both(alpha, beta, x, gradient):
        spikes, backward = jax.vjp(
            lambda *a: fused.spikes(*a, 1.0, "rectangle", 1.0, False, mesh), alpha, beta, x
        )
        return spikes, backward(gradient)

    return jax.jit(both).trace(decay, decay, x, x).lower(), 5 * x.size * 2


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=("h200", "v5e"))
    parser.add_argument("--only", default="", help="a network, or neuron")
    parser.add_argument("--recipes", action="store_true", help="the compared systems' recipes")
    parser.add_argument("--quick", action="store_true", help="one program, nothing recorded")
    parser.add_argument("--hlo", default="", help="a folder for the optimised programs")
    arguments = parser.parse_args()
    if arguments.quick:
        lowered = lower_step(CASES[0], devices_of(arguments.target, 4))
        print(figures(lowered, 4)[0])
        return
    # One part measured again replaces its own records.
    name_of = f"compiled_{arguments.target}" + "_recipes" * arguments.recipes
    records = measure.read(name_of) if arguments.only or arguments.recipes else []

    def record(name, lowered, count, **more):
        values, text = figures(lowered, count, PLAN if arguments.recipes else None)
        records[:] = [r for r in records if r["name"] != name] + [{"name": name, **more, **values}]
        if arguments.hlo:
            os.makedirs(arguments.hlo, exist_ok=True)
            with open(os.path.join(arguments.hlo, re.sub(r"\W+", "_", name) + ".txt"), "w") as f:
                f.write(text)
        measure.write(name_of, records, jax=jax.__version__)
        shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in values.items()}
        print(name, shown, flush=True)

    if arguments.recipes:
        done = {row["name"] for row in records}
        for path in recipes_of():
            lowered, config = lower_recipe(path, devices_of(arguments.target, 1))
            name = f"{path.parent.name}/{path.stem}: {config.model} T={config.timesteps}"
            name += f" batch {config.batch_size}"
            if name not in done and arguments.only in ("", path.stem):
                record(name, lowered, 1, network=config.model, timesteps=config.timesteps,
                       batch=config.batch_size, recipe=path.stem)  # fmt: skip
        return
    count = 4
    for case in CASES:
        if arguments.only not in ("", case[0]):
            continue
        name = f"{case[0]} T={case[1]} batch {case[5]}"
        variants = [(1, "off", "xla"), (1, "on", "xla"), (count, "on", "xla")]
        if arguments.target == "h200":
            variants += [(1, "on", "pallas"), (count, "on", "pallas")]
            variants += [(n, r, "pallas_norm") for n, r in ((1, "off"), (1, "on"), (count, "on"))]
        for number, rematerialize, kernel in variants:
            devices = devices_of(arguments.target, number)
            lowered = lower_step(case, devices, rematerialize=rematerialize, kernel=kernel)
            record(
                f"{name} x {number} rematerialize {rematerialize} {kernel}", lowered, number,
                network=case[0], timesteps=case[1], batch=case[5], rematerialize=rematerialize,
                kernel=kernel,
            )  # fmt: skip
    if arguments.only in ("", "neuron"):
        kernels = [("xla", 1)] + [("pallas", 1), ("pallas", count)] * (arguments.target == "h200")
        for timesteps in (1, 2, 4, 8, 16, 32):
            for kernel, number in kernels:
                devices = devices_of(arguments.target, number)
                lowered, floor = lower_neuron(timesteps, devices, kernel)
                record(
                    f"neuron T={timesteps} {kernel} x {number}", lowered, number,
                    timesteps=timesteps, kernel=kernel, floor_bytes=floor // number,
                )  # fmt: skip


if __name__ == "__main__":
    main()
