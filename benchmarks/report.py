"""benchmarks/README.md from results/*.json.

python benchmarks/report.py
"""

import json
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The text of README.md up to this line is written by hand.
MARK = "<!-- written by report.py -->"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def milliseconds(side):
    return f"{1e3 * side['median_s']:.1f}" if side else "-"


def mib(value):
    return f"{value / 2**20:,.0f}"


def best_of_theirs(sides):
    """Seconds of the fastest contender; of ours there may be several."""
    return min(s["median_s"] for name, s in sides.items() if not name.startswith("ours"))


def neuron(result):
    names = ("fused", "scan", "dalif_compiled", "dalif_eager", "dalif", "plif")
    rows = []
    for record in result["records"]:
        sides = record["sides"]
        best = min(sides[name]["median_s"] for name in ("dalif", "plif") if name in sides)
        fused = sides["fused"]["median_s"]
        rows.append(
            [record["dtype"], record["timesteps"], f"{1e3 * record['floor_s']:.1f}"]
            + [milliseconds(sides.get(name)) for name in names]
            + [f"{best / fused:.1f}x", f"{sides['dalif_compiled']['median_s'] / fused:.2f}x"]
        )
    head = ("dtype", "T", "floor, ms", "ours", "our scan", "torch.compile", "torch loop",
            "SpikingJelly FlexSN", "SpikingJelly PLIF", "against the better SpikingJelly",
            "against torch.compile")  # fmt: skip
    return "A. One DA-LIF layer, forward and backward", table(head, rows)


def neurons(result):
    rows = []
    for record in result["records"]:
        ours, theirs = (record["sides"].get(name) for name in ("ours", "theirs"))
        rows.append((
            record["neuron"], record["timesteps"], f"{1e3 * record['floor_s']:.1f}",
            milliseconds(ours), f"{ours['median_s'] / record['floor_s']:.1f}",
            mib(ours["planned_bytes"]), milliseconds(theirs),
            f"{theirs['median_s'] / ours['median_s']:.1f}x" if theirs else "",
        ))  # fmt: skip
    head = ("neuron", "T", "floor, ms", "ours, ms", "of the floor", "planned, MiB",
            "SpikingJelly's own, ms", "theirs / ours")  # fmt: skip
    return "A. One layer of every neuron, forward and backward, float32", table(head, rows)


def timesteps(result):
    rows = []
    for record in result["records"]:
        for name, form in record["forms"].items():
            rows.append((
                record["neuron"], record["timesteps"], name, f"{form['compile_s']:.1f}",
                milliseconds(form), mib(form["temp_bytes"]), mib(form["x_bytes"]),
            ))  # fmt: skip
    head = ("neuron", "T", "form", "compile, s", "step, ms", "temporary, MiB", "x, MiB")
    return "A. One layer over T, forward and backward, float32", table(head, rows)


def step(result):
    rows = []
    for record in result["records"]:
        spec, sides = record["spec"], record["sides"]
        theirs = best_of_theirs(sides)
        for name, side in sides.items():
            ratio = f"{theirs / side['median_s']:.2f}x" if name == "ours" else ""
            floor = record.get("floor_s")
            rows.append((
                f"{spec['network']} T={spec['timesteps']} batch {spec['batch']}", name,
                f"{spec['batch'] / side['median_s']:.1f}", ratio,
                f"{side['median_s'] / floor:.1f}" if floor else "", mib(side["peak_bytes"]),
                mib(side["steps_peak_bytes"]) if "steps_peak_bytes" in side else "",
                mib(side["planned_bytes"]) if "planned_bytes" in side else "",
                f"{side['compile_s']:.0f}",
            ))  # fmt: skip
    head = (
        "network",
        "side",
        "images/s",
        "against their best",
        "of the floor",
        "peak, MiB",
        "of it the steps",
        "planned, MiB",
        "first step, s",
    )
    return "B. Whole train step", table(head, rows)


def inference(result):
    rows = []
    for record in result["records"]:
        spec, sides = record["spec"], record["sides"]
        theirs = best_of_theirs(sides)
        one = spec["task"] == "latency"
        for name, side in sides.items():
            seconds = side["median_s"]
            batch = "one timestep" if one else f"{spec['batch']} x T={spec['timesteps']}"
            rows.append((
                spec["network"], batch, name,
                f"{1e3 * seconds:.2f}" if one else f"{1e3 * seconds:,.0f}",
                f"{1e3 * side['p99_s']:.2f}" if one else "",
                "" if one else f"{spec['batch'] / seconds:,.0f}",
                f"{theirs / seconds:.2f}x" if name == "ours" else "", mib(side["peak_bytes"]),
            ))  # fmt: skip
    head = ("network", "batch", "side", "median, ms", "99 %, ms", "examples/s",
            "against their best", "peak, MiB")  # fmt: skip
    return "E. Inference, float32", table(head, rows)


def start(result):
    rows = [
        (r["name"], *(f"{r[kind]:.1f}" for kind in ("cold", "warm"))) for r in result["records"]
    ]
    return "F. From the command", table(("until", "cold, s", "with its cache, s"), rows)


def models(result):
    rows = []
    for record in result["records"]:
        ours, theirs = (record["sides"][name] for name in ("ours", "theirs"))
        rows.append((
            f"{record['network']} T={record['timesteps']} batch {record['batch']}",
            f"{record['batch'] / ours['median_s']:.2f}",
            f"{record['batch'] / theirs['median_s']:.2f}",
            f"{theirs['median_s'] / ours['median_s']:.2f}x", mib(ours["peak_bytes"]),
            mib(theirs["peak_bytes"]), f"{record['gate']['logits']:.0e}",
            f"{record['gate']['gradients']:.0e}",
        ))  # fmt: skip
    head = ("network", "ours, examples/s", "theirs", "theirs / ours", "our peak, MiB", "theirs",
            "logits differ by", "gradients by")  # fmt: skip
    return "B. SpikingJelly's own networks, train step, float32", table(head, rows)


def convolution(result):
    forms = ("compiler", "products", "written", "patches", "shifted", "turned")
    product = f"{result['product_gflops']:.0f}"
    rows = [("a product of 2048 x 2048 matrices", "", product, *[""] * len(forms))]
    for record in result["records"]:
        images, side, _, channels = record["x"]
        kernel, used = record["kernel"], record["in_use"].removesuffix("_input")
        gflops = {k.removesuffix("_input"): v for k, v in record["form_gflops"].items()}
        shape = f"{images} x {side}x{side}, {channels} to {kernel[3]}, {kernel[0]}x{kernel[1]}"
        where = ", ".join(f"{count} in {name}" for name, count in record["networks"])
        rows.append((
            shape + (f" by {record['stride']}" if record["stride"] > 1 else ""), record["of"],
            *(f"{gflops[f]:.0f}" + " (in use)" * (f == used) if f in gflops else "" for f in forms),
            where,
        ))  # fmt: skip
    head = ("images x map, channels, kernel", "of", *forms, "where")
    return "G. Convolutions by form, GFLOP/s", table(head, rows)


def rates(result):
    rows = [(r["name"], f"{r['images_per_second']:,.0f}") for r in result["records"]]
    return "C. Input against the step", table(("what", "images/s"), rows)


def stream(result):
    rows = [
        (r["name"], f"{r['images_per_second']:,.0f}", f"{r['bytes_per_image'] / 1e3:.0f}")
        for r in result["records"]
    ]
    return "C. ImageNet from disk to the device", table(("with", "images/s", "kB a file"), rows)


def grid(result):
    rows = [
        (r["name"], f"{1e3 * r['median_s']:.0f}", f"{r['compile_s']:.0f}")
        for r in result["records"]
    ]
    head = ("network and form", "ms a step of all eight", "compile, s")
    return "D. Eight seeds of one network", table(head, rows)


def compiled(result):
    rows = []
    for r in result["records"]:
        flops = f"{r['flops'] / 1e9:,.0f}" if r["flops"] else "-"
        moved = f"{r['bytes_accessed'] / 1e9:.2f}"
        if "floor_bytes" in r:
            moved += f", {r['bytes_accessed'] / r['floor_bytes']:.2f}x the floor"
        collectives = ", ".join(f"{v} {k}" for k, v in r["collectives"].items()) or "-"
        rows.append((
            r["name"], mib(r["peak_bytes"]), mib(r["temp_bytes"]), flops,
            moved, collectives, f"{r['compile_s']:.0f}",
        ))  # fmt: skip
    head = ("program", "peak a device, MiB", "of it temporary", "GFLOP", "GB moved",
            "collectives", "compile, s")  # fmt: skip
    return "Compiled, not run", table(head, rows)


def nir(result):
    rows = []
    for r in result["records"]:
        rows.append((
            f"{r['model']} on {r['dataset']}, T = {r['timesteps']}", f"{r['examples']:,}",
            f"{r['compared']:,}", f"{sum(r['spikes'].values()):,}",
            str(sum(r["differing"].values())), str(sum(r["differing_as_read"].values())),
        ))  # fmt: skip
    head = ("network", "examples", "compared", "spikes", "differing",
            "differing where snnTorch's reader rounds to float32")  # fmt: skip
    return "The NIR file in snnTorch", table(head, rows)


def versions_of(record):
    """Names and versions, "jax 0.12.0" and the like, of every side of a record."""
    for side in record.get("sides", {}).values():
        yield from (
            f"{name} {version}"
            for name, version in side.get("versions", {}).items()
            if name != "jaxlib"
        )


def quiet(result):
    """How quiet the machine was and what it could give, where that was measured."""
    if "load_before" not in result:
        return ""
    gflops = result.get("gflops") or result["records"][0].get("gflops")
    if not gflops:
        return f", load {result['load_before']:.2f} before"
    return (
        f", load {result['load_before']:.2f} before, matrix product "
        + " and ".join(f"{value:.0f}" for value in gflops.values())
        + " GFLOP/s (ours, theirs)"
    )


KINDS = {"nir": nir, "timesteps": timesteps, "neuron": neuron, "neurons": neurons,
         "models": models, "step": step,
         "start": start, "inference": inference, "input": rates, "stream": stream, "grid": grid,
         "convolution": convolution, "compiled": compiled}  # fmt: skip


def main():
    parts = []
    for path in sorted((HERE / "results").glob("*.json")):
        kind, _, where = path.stem.partition("_")
        result = json.loads(path.read_text())
        title, text = KINDS[kind](result)
        versions = sorted({v for r in result["records"] for v in versions_of(r)})
        versions += [f"jax {result['jax']}"] if "jax" in result else []
        parts.append(
            f"## {title}: {where}\n\n{result['cpu']}, {result['cores']} cores, Python "
            f"{', '.join([result['python'], *versions])}, {result['date']}{quiet(result)}, "
            f"commit {result['commit'][:10]}"
            f"{'' if re.fullmatch('[0-9a-f]{40}', result['commit']) else ' with changes'}; "
            f"[{path.name}](results/{path.name})\n\n{text}\n"
        )
    readme = HERE / "README.md"
    by_hand = readme.read_text().split(MARK)[0]
    readme.write_text(by_hand + MARK + "\n\n" + "\n".join(parts))


if __name__ == "__main__":
    main()
