"""Cards, logs, graphs, archives and class names from elsewhere: read rightly, or refused in a line.

A part of the campaign behind docs/reliability.md (`campaign.py`); the suite runs a short form.
"""

import gzip
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np

from dalif_jax.analysis import figures
from dalif_jax.data import cifar
from dalif_jax.data.events.events import DataError
from dalif_jax.exchange import card, interchange
from dalif_jax.exchange.card import CardError
from dalif_jax.exchange.graphs import NotRepresentable
from dalif_jax.runs import init_from, report, runlog
from dalif_jax.runs.runlog import LogError
from dalif_jax.settings import config

ROOT = Path(__file__).resolve().parent.parent
CARD = ROOT / "cards" / "digits"
REFUSALS = (CardError, config.ConfigError, LogError, DataError, NotRepresentable)
ODD_JSON = (
    b"", b"[]", b"null", b"3", b'"text"', b"{", b'{"a": NaN}', b'{"a": 1e999}', b'{"a": -Infinity}',
    b'{"step": 1, "step": 2}', b'{"a": ' + b"9" * 5000 + b"}", b'{"a": 99999999999999999999999}',
    b"[" * 100_000, b'{"a": ' * 100_000, b'{"a":' + b"[" * 40 + b"]" * 40 + b"}", b"\xff\xfe{}",
    b'{"a": "\xff"}', '{"a": 1}'.encode("utf-16"), b'{"a": 1} {"b": 2}', b"\0" * 100,
)  # fmt: skip
ODD_VALUES = (
    None, True, -1, 2**62, 1e300, "", "x" * 5000, "\ud800", "<script>alert(1)</script>", [], [[]],
    [None] * 2000, {}, {"a": {"b": []}}, "../../../etc/passwd", 0.5,
)  # fmt: skip
ODD_NAMES = (
    "$5_to_$10", "$_and_^$", "_hidden", "\udcff\udcfe", "\ud800", "a\nb", "\0", "\x1b[31mred",
    "<img src=x onerror=alert(1)>", "\\frac{1}", "%s{}", "\u202eright to left", "x" * 3000, "",
    " ", "\N{GRINNING FACE}", "{\\bf x}", "`code`", "|", "$",
)  # fmt: skip


def snapshot(folder):
    """{path: content, or where a link leads} of all below a folder."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def attempt(read, counts):
    """Count whether a reader gave a result or refused in one line; anything else is raised."""
    try:
        read()
        counts["read"] += 1
    except REFUSALS as error:
        assert "\n" not in str(error), str(error)
        assert 0 < len(str(error)) < 3000, str(error)[:200]
        counts["refused"] += 1


def card_readers(folder):
    settings = config.load(folder)
    config.validate(settings)
    card._limit_batch(settings, 1)
    card.read_report(folder)
    card.weights(folder)


def json_of_cards(folder, seed=0):
    """Files of cards: odd texts in place of each, and odd values of every key that they hold."""
    rng, counts = random.Random(seed), {"read": 0, "refused": 0}
    copy = folder / "card"
    shutil.copytree(CARD, copy)
    for name in ("config.json", "eval.json"):
        whole = (copy / name).read_bytes()
        before = dict(counts)
        for data in ODD_JSON:
            (copy / name).write_bytes(data)
            attempt(lambda: card_readers(copy), counts)
        assert counts["read"] == before["read"], name
        values = json.loads(whole)
        for key in values:
            for odd in rng.sample(ODD_VALUES, 3):
                (copy / name).write_text(json.dumps(values | {key: odd}))
                attempt(lambda: card_readers(copy), counts)
        for key in ("accuracy", "examples", "step", "checkpoint", "model", "timesteps"):
            less = {other: value for other, value in values.items() if other != key}
            (copy / name).write_text(json.dumps(less))
            attempt(lambda: card_readers(copy), counts)
        (copy / name).write_bytes(whole)
    record = {"shape": [8, 8, 1], "classes": ["a", "b"], "train": 9, "test": 9, "mean": [0.5],
              "std": [1.0], "timesteps": 0}  # fmt: skip
    plain = config.to_json(config.base_config()) | {"dataset": "arrays", "found": record}
    config.from_json(plain, "card")
    for key in record:
        for odd in (*ODD_VALUES, [-1, 8, 1], [10**6, 10**6, 3], ["a", 3], [0.0]):
            odd_record = plain | {"found": record | {key: odd}}
            attempt(lambda c=odd_record: config.validate(config.from_json(c, "card")), counts)
    for name, option in (("blocks", [10**7]), ("n", 10**7), ("hidden", 10**12), ("blocks", [[[]]])):
        odd = plain | {"model_options": {name: option}}
        attempt(lambda c=odd: config.validate(config.from_json(c, "card")), counts)
    return counts


def logs(folder, seed=0):
    """metrics.jsonl and init_from.json with odd lines and values, read and drawn."""
    rng, counts = random.Random(seed), {"read": 0, "refused": 0}
    record = {"kind": "eval", "step": 1, "epoch": 1, "loss": 1.0, "accuracy": 0.5, "split": "test",
              "seconds": 1.0, "layers": {"a": {"firing_rate": 0.1, "alpha": 1.0}}}  # fmt: skip
    train = {"kind": "train", "step": 1, "epoch": 1, "loss": 1.0, "accuracy": 0.5,
             "learning_rate": 0.1, "device": "cpu"}  # fmt: skip
    path = folder / "metrics.jsonl"

    def draw():
        report.check_drawable(runlog.read_metrics(path), path)

    def check():
        runlog.read_metrics(path)
        report.records_of(folder)
        draw()

    for data in ODD_JSON:
        path.write_bytes(data + b"\n")
        attempt(check, counts)
    for start in (record, train):
        for key in start:
            for odd in rng.sample(ODD_VALUES, 5):
                path.write_text(json.dumps(start | {key: odd}) + "\n")
                attempt(check, counts)
            path.write_text(json.dumps({k: v for k, v in start.items() if k != key}) + "\n")
            attempt(check, counts)
    for data in ODD_JSON:
        (folder / init_from.RECORD).write_bytes(data)
        attempt(lambda: init_from.start(folder, None, {}, None), counts)
    assert counts["refused"] > 60
    return counts


def tensors(folder, seed=0):
    """Odd safetensors files in a card: header, types, shapes, values, names."""
    from safetensors.numpy import load_file, save, save_file

    rng, counts = random.Random(seed), {"read": 0, "refused": 0}
    copy = folder / "card"
    shutil.copytree(CARD, copy)
    path = copy / "weights.safetensors"
    whole, arrays = path.read_bytes(), load_file(path)
    length = int.from_bytes(whole[:8], "little")
    cases = []
    for name in list(arrays)[:12]:
        for odd in (np.nan, np.inf, -np.inf):
            array = np.array(arrays[name])
            array.reshape(-1)[rng.randrange(array.size)] = odd
            cases.append(save(arrays | {name: array}, card.FORMAT))
        for dtype in ("float16", "int32", "bool", "uint8"):
            cases.append(save(arrays | {name: arrays[name].astype(dtype)}, card.FORMAT))
    header = json.loads(whole[8 : 8 + length])
    for entry in (None, 3, [], {}, {"dtype": "F32"},
                  {"dtype": "F4", "shape": [], "data_offsets": []},
                  {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]},
                  {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}):  # fmt: skip
        text = json.dumps(header | {next(iter(arrays)): entry}).encode()
        cases.append(struct.pack("<Q", len(text)) + text + whole[8 + length :])
    for data in ODD_JSON:
        cases.append(struct.pack("<Q", len(data)) + data)
    cases += [struct.pack("<Q", 2**60) + whole[8:], whole[:100], b"", whole[:-1], whole + b"x"]
    for case in cases:
        path.write_bytes(case)
        before = counts["read"]
        attempt(lambda: card.weights(copy), counts)
        assert counts["read"] == before, "a damaged file was read"
    save_file(arrays, path, card.FORMAT)
    attempt(lambda: card.weights(copy), counts)
    assert counts["read"] == 1
    return counts


def graph_files(folder, seed=0, damaged=60):
    """NIR files that refer elsewhere, declare what they do not hold, or are damaged; odd graphs."""
    import h5py
    import nir

    rng, counts = random.Random(seed), {"read": 0, "refused": 0}
    path, x = folder / "x.nir", np.ones((1, 2, 1, 4, 4), np.float32)

    def line(node):
        nodes = {"a": nir.Input(np.array([1, 4, 4])), "b": node, "c": nir.Output(np.array([1]))}
        return nir.NIRGraph(nodes, [("a", "b"), ("b", "c")], type_check=False)

    def read():
        interchange.run(interchange.read(path), x)

    def conv(size=None, **keys):
        node = nir.Conv2d(size, np.ones((1, 1, 2, 2)), 1, 0, 1, 1, np.zeros(1))
        for key, value in keys.items():  # afterwards: nir refuses some of them, a file does not
            setattr(node, key, value)
        return line(node)

    def pool(kernel, stride, padding, kind=nir.SumPool2d):
        return line(kind(np.array(kernel), np.array(stride), np.array(padding)))

    interchange.write(path, conv((4, 4)))
    whole = path.read_bytes()
    attempt(read, counts)
    assert counts["read"] == 1
    huge = 10**9

    def lif(**keys):
        node = nir.LIF(*(np.full((1,), value) for value in (1.0, 1.0, 0.0, 1.0)))
        for key, value in keys.items():
            setattr(node, key, np.asarray(value))
        return line(node)

    graphs = [
        *(conv(**{key: value}) for key in ("stride", "padding", "dilation", "groups")
          for value in (0, -1, huge, np.array([1, 2, 3]), "some", 0.5, np.nan)),
        *(conv(bias=np.zeros(n)) for n in (0, 7)),
        *(pool(k, s, p) for k, s, p in (([huge] * 2, [1, 1], [huge // 2] * 2),
                                        ([0, 0], [1, 1], [0, 0]), ([2, 2], [0, 0], [0, 0]),
                                        ([2, 2], [1, 1], [-1, 0]),
                                        ([2, 2], [1, 1], [huge] * 2), ([1.5], [1], [0]))),
        *(lif(**keys) for keys in ({"tau": np.ones((10**5, 1)), "r": np.ones((1, 10**5))},
                                   {"tau": np.nan}, {"r": np.inf}, {"v_threshold": np.nan},
                                   {"tau": np.ones(3)}, {"tau": "x"}, {"v_leak": 1.0})),
        line(nir.Linear(np.ones((2, 2, 2)))), line(nir.Linear(np.ones((2, 9)))),
        line(nir.Affine(np.ones((2, 4)), np.ones(10**4))),
        line(nir.Flatten({"input": None}, 9, 10)),
    ]  # fmt: skip
    for graph in graphs:
        attempt(lambda g=graph: interchange.run(g, x), counts)

    def change(edit):
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            edit(file)
        before = counts["read"]
        attempt(read, counts)
        assert counts["read"] == before, "a malformed file was read"

    weight = "node/nodes/b/weight"
    outside = folder / "outside.h5"
    with h5py.File(outside, "w") as file:
        file["secret"] = np.ones((1, 1, 2, 2))

    def replace(name, make):
        def edit(file):
            del file[name]
            make(file, name)

        return edit

    layout = h5py.VirtualLayout((1, 1, 2, 2), "f8")
    layout[...] = h5py.VirtualSource(str(outside), "secret", (1, 1, 2, 2))
    for shape in ((10**6, 10**6), (2**40,), (2**20, 1, 64, 64)):
        change(replace(weight, lambda f, n, s=shape: f.create_dataset(n, s, "f8")))
        change(replace(weight, lambda f, n, s=shape: f.create_dataset(
            n, s, "f8", chunks=tuple(min(d, 16) for d in s), compression="gzip")))  # fmt: skip
    zeros = np.zeros((2**25,))
    change(replace(weight, lambda f, n: f.create_dataset(n, data=zeros, compression="gzip")))
    change(
        replace(weight, lambda f, n: f.__setitem__(n, h5py.ExternalLink(str(outside), "secret")))
    )
    change(replace(weight, lambda f, n: f.__setitem__(n, h5py.SoftLink("/node/nodes/b/bias"))))
    change(replace(weight, lambda f, n: f.create_virtual_dataset(n, layout)))
    change(replace(weight, lambda f, n: f.create_dataset(
        n, (1, 1, 2, 2), "f8", external=[(str(outside), 0, 32)])))  # fmt: skip
    change(replace(weight, lambda f, n: f.__setitem__(n, "a text")))
    change(lambda f: f["node/nodes/b"].__setitem__("self", f["node"]))
    change(lambda f: f["node/nodes"].__setitem__("b2", f["node/nodes/b"]))
    change(lambda f: f["node"].__delitem__("edges"))
    for name in ("node", "node/nodes", "node/type", "node/nodes/b/type", "node/nodes/a/shape",
                 "node/nodes/c", "node/nodes/b/stride", weight):  # fmt: skip
        change(lambda f, n=name: f.__delitem__(n))
    change(replace("node/edges", lambda f, n: f.create_dataset(n, data=[["a" * 10**5, "b"]])))
    change(replace("node/type", lambda f, n: f.create_dataset(n, data=np.zeros(3))))
    for _ in range(damaged):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 5)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(bytes(data[: rng.choice((len(data), rng.randrange(len(data))))]))
        attempt(read, counts)
    return counts


def archives(folder):
    """CIFAR archives that unpack to more than the official ones, in each way that tar has."""
    counts = {"read": 0, "refused": 0}
    for name, archive in cifar.ARCHIVES.items():
        member = f"{archive.folder}/{next(iter(archive.md5))}"
        path = folder / archive.file

        def info(name, size, kind=tarfile.REGTYPE):
            entry = tarfile.TarInfo(name)
            entry.size, entry.type = size, kind
            return entry.tobuf(tarfile.GNU_FORMAT)

        heads = (
            info(member, 2**34), info("other", 2**34),
            info("long", 2**34, tarfile.GNUTYPE_LONGNAME),
            info(member, 2**34, tarfile.XHDTYPE), info(member, 2**20), b"", b"\0" * 1024,
            info(f"../{member}", 2**34), info(member, 2**34, tarfile.GNUTYPE_SPARSE),
        )  # fmt: skip
        for head in heads:
            with gzip.open(path, "wb", 1) as file:
                file.write(head)
                for _ in range(320 if len(head) and b"other" in head else 3):
                    file.write(bytes(2**20))
            attempt(lambda n=name: cifar.load(n, str(folder)), counts)
        path.write_bytes(b"\x1f\x8b" + os.urandom(100))
        attempt(lambda n=name: cifar.load(n, str(folder)), counts)
        path.unlink()
        where = folder / archive.folder
        where.mkdir()
        for file in archive.md5:
            with open(where / file, "wb") as sparse:
                sparse.truncate(2**34)
        attempt(lambda n=name: cifar.load(n, str(folder)), counts)
        shutil.rmtree(where)
    assert counts["read"] == 0
    return counts


def names(folder):
    """Names of classes, layers, splits and devices of odd characters, drawn and written."""
    counts = {"drawn": 0}
    for number, odd in enumerate(ODD_NAMES):
        table = {"confusion": [[3, 1], [0, 4]]}
        path = folder / f"{number}.png"
        figures.confusion_matrix(table, path, (odd, "plain"), note=odd)
        assert path.read_bytes()[:4] == b"\x89PNG"
        page = report.table((odd, "x"), [(odd, "y")])
        assert "<img" not in page and "<script" not in page
        page.encode()
        shown = card.markdown(odd)
        assert not set("<>|`*\n") & set(shown), shown
        shown.encode()
        counts["drawn"] += 1
    return counts


def start(*words):
    """(exit code, standard output, standard error) of a program on one CPU device."""
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=600,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHONUTF8": "1"},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def programs(folder):
    """Exports over folders and links of others, and damaged cards, through the programs."""
    counts = {"refused": 0, "right": 0}

    def refused(*words, keep):
        before = snapshot(keep)
        code, _, errors = start(*words)
        lines = [line for line in errors.splitlines() if line.startswith("error: ")]
        assert code == 2 and len(lines) == 1 and "Traceback" not in errors, (code, errors)
        assert snapshot(keep) == before, words
        counts["refused"] += 1

    # Exports onto what is not a card.
    for number, name in enumerate((*card.FILES, "thesis.tex", ".git")):
        place = folder / f"other{number}"
        place.mkdir()
        (place / name).write_text("mine")
        script = ("eval.py", "--card", CARD) if number % 2 else (
            "convert.py", "--source", CARD, "--to", "folded")  # fmt: skip
        refused(*script, "--export", place, keep=folder)
    (folder / "file").write_text("mine")
    refused("eval.py", "--card", CARD, "--export", folder / "file", keep=folder)
    (folder / "dangling").symlink_to(folder / "nothing")
    refused("eval.py", "--card", CARD, "--export", folder / "dangling", keep=folder)

    # Links under every name of a card are replaced, not followed.
    victim = folder / "victim"
    victim.write_text("mine")
    for name in ("network.nir", "README.md"):
        copy = folder / f"linked_{name}"
        shutil.copytree(CARD, copy)
        (copy / name).unlink()
        (copy / name).symlink_to(victim)
        code, _, errors = start("eval.py", "--card", copy, "--export", copy)
        assert code == 0, errors
        assert victim.read_text() == "mine" and not (copy / name).is_symlink()
        assert not [path for path in copy.iterdir() if path.name not in card.FILES]
        counts["right"] += 1

    # Damaged and foreign cards.
    def changed(name, data):
        copy = folder / f"card{len(list(folder.iterdir()))}"
        shutil.copytree(CARD, copy)
        (copy / name).write_bytes(data)
        return copy

    config_json = json.loads((CARD / "config.json").read_text())
    stated = json.loads((CARD / "eval.json").read_text())
    for name, data in (
        ("config.json", b"[" * 100_000), ("config.json", b'{"seed": 1, "seed": 2}'),
        ("config.json", json.dumps(config_json | {"timesteps": 2**40}).encode()),
        ("eval.json", b'{"step": NaN}'), ("eval.json", json.dumps(stated | {"step": {}}).encode()),
        ("eval.json", b"{}"), ("weights.safetensors", b"\xff" * 100),
        ("weights.safetensors", b""),
    ):  # fmt: skip
        refused("eval.py", "--card", changed(name, data), keep=folder)
    for name, data in (("weights.safetensors", b"\xff" * 100), ("config.json", b'{"a": 1}')):
        source = changed(name, data)
        refused("convert.py", "--source", source, "--to", "folded", "--export", folder / "new",
                keep=folder)  # fmt: skip
    source = changed("weights.safetensors", b"x" * 50)
    refused("train.py", "--config", "configs/digits.py", "--dry_run",
            f"--config.init_from={source}", keep=folder)  # fmt: skip

    # A card that names places of its choice.
    evil = config_json | {"cache_dir": str(folder / "evil"), "data_dir": str(folder / "evil")}
    copy = changed("config.json", json.dumps(evil).encode())
    stated.pop("sha256", None)
    (copy / "eval.json").write_text(json.dumps(stated))
    code, out, errors = start("eval.py", "--card", copy)
    assert code == 0 and "agrees" in out, errors
    assert not (folder / "evil").exists()
    counts["right"] += 1
    # Figures that are not those of the weights.
    (copy / "eval.json").write_text(json.dumps(stated | {"accuracy": 0.999}))
    code, out, errors = start("eval.py", "--card", copy)
    assert code == 1 and "DIFFERS" in out, errors
    counts["right"] += 1
    return counts


PARTS = {
    "json_of_cards": json_of_cards, "logs": logs, "tensors": tensors, "graph_files": graph_files,
    "archives": archives, "names": names,
}  # fmt: skip


def foreign_files(folder, through_programs=True):
    """Files from elsewhere; {part: counts}, and how many tries there were in all."""
    parts = PARTS | ({"programs": programs} if through_programs else {})
    counts = {}
    for name, part in parts.items():
        (folder / name).mkdir()
        counts[name] = part(folder / name)
    tries = sum(number for part in counts.values() for number in part.values())
    return {"tries": tries, **counts, "tracebacks": 0, "written_outside": 0}
