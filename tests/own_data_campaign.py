"""User datasets that are odd, damaged or changed: read right, or refused in one line.

Part of the campaign behind docs/reliability.md (`campaign.py`); the suite runs a short form.
"""

# ruff: noqa: B023  the checks are called before their loop goes on

import contextlib
import io
import os
import random
import struct
import unicodedata
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from dalif_jax.data import sets
from dalif_jax.data.arrays import arrays
from dalif_jax.data.class_folders import class_files
from dalif_jax.data.events import frames, recordings
from dalif_jax.data.events.events import DataError
from dalif_jax.data.image_folder import image_folder
from dalif_jax.settings import config


def write_png16(path, pixels):
    """A PNG of 16 bits a channel: uint16 [H, W, 3] or [H, W]."""
    height, width = pixels.shape[:2]
    colour = 2 if pixels.ndim == 3 else 0
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(
            ">I", zlib.crc32(kind + data)
        )  # fmt: skip

    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def attempt(counts, function, right=None, refused=None):
    """Call a function; its result must pass `right`, or be one DataError where `refused` allows."""
    counts["tries"] += 1
    try:
        with contextlib.redirect_stdout(io.StringIO()) as out:
            result = function()
    except DataError as error:
        assert refused, error
        assert str(error).count("\n") == 0, error
        counts["refused"] += 1
        return str(error)
    assert right is not None, "was read"
    right(result)
    counts["read_right"] += 1
    return out.getvalue()


# ---- Folders.


def gray(path, value, size=(6, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


def odd_folder(root, what, rng):
    """A folder of two classes, and one odd thing; (files that are examples, whether refused)."""
    parts = {
        "capital parts": ("Train", "TEST"), "other parts": ("training", "validation"),
        "seg parts": ("seg_train", "seg_test"), "plain": (),
    }.get(what, rng.choice([(), ("train", "test")]))  # fmt: skip
    count, expected = rng.randint(5, 9), []
    names = rng.sample(["cat", "dog 2", "größe", "日本", "a.b", "x$y"], 2)
    folders = [root.joinpath(part, cls) for part in parts or ("",) for cls in names]
    for number, folder in enumerate(folders):
        for i in range(count):
            path = folder / rng.choice(["", "sub"]) / f"{i}.png"
            gray(path, 10 * number + i)
            expected.append(path)
    some = rng.choice(folders)
    value = 250
    if what == "hidden":
        gray(some / ".ipynb_checkpoints" / "0.png", value)
        gray(some / "@eaDir" / "0.png", value)
        gray(folders[0].parent / "__MACOSX" / "0.png", value)
    elif what == "linked folder":
        gray(root.parent / f"{root.name} elsewhere" / "new.png", value)
        (some / "link").symlink_to(root.parent / f"{root.name} elsewhere")
        expected.append(some / "link" / "new.png")
    elif what == "loop":
        (some / "loop").symlink_to(rng.choice([root, some, some.parent]))
    elif what == "link to a class":
        (some / "other").symlink_to(next(folder for folder in folders if folder != some))
    elif what == "pipe":
        os.mkfifo(some / "pipe.png")
    elif what == "broken link":
        (some / "gone.png").symlink_to(root / "nowhere")
    elif what == "bytes":
        path = Path(os.fsdecode(os.fsencode(some) + b"/\xff\xfe.png"))
        gray(path, value)
        expected.append(path)
    elif what == "nested part" and parts:
        for part in parts:
            (root / part).rename(root / "moved")
            (root / part).mkdir()
            (root / "moved").rename(root / part / part)
        expected = [root / p.relative_to(root).parts[0] / p.relative_to(root) for p in expected]
    elif what == "two parts" and parts:
        gray(root / "Training" / names[0] / "0.png", value)
        return expected, True
    elif what == "one part" and not parts:
        gray(root / "train" / names[0] / "0.png", value)
        return expected, True
    elif what == "empty class":
        (some.parent / "empty").mkdir()
        return expected, True
    elif what == "extra folder" and parts:
        gray(root / "annotations" / "0.png", value)
    elif what == "three parts" and parts:
        gray(root / "val" / names[0] / "0.png", value)
    return expected, False


FOLDERS = (
    "plain", "hidden", "linked folder", "loop", "link to a class", "pipe", "broken link", "bytes",
    "nested part", "two parts", "one part", "empty class", "extra folder", "three parts",
    "capital parts", "other parts", "seg parts",
)  # fmt: skip


def odd_folders(folder, seeds, counts):
    for seed in range(seeds):
        for what in FOLDERS:
            rng = random.Random(f"{seed} {what}")
            root = folder / f"{what} {seed}"
            root.mkdir()
            expected, refused = odd_folder(root, what, rng)

            def right(result, expected=expected, what=what):
                splits, classes, _ = result
                used = [path for rows in splits.values() for path, _ in rows]
                assert sorted(used) == sorted(expected), (what, set(used) ^ set(expected))
                assert len(classes) == 2 and splits["train"] and splits["test"]

            attempt(
                counts,
                lambda root=root: class_files(
                    root, "image_folder", lambda p: "" if p.suffix == ".png" else "another kind"
                ),
                None if refused else right,
                refused,
            )


def same_split_in_every_form(folder, seeds, counts):
    """Names composed in one copy and decomposed in the other: the same examples in each split."""
    for seed in range(seeds):
        rng, values = random.Random(seed), []
        names = [f"{rng.choice('äöüéñ')}{i}.png" for i in range(12)]
        for form in ("NFC", "NFD"):
            root = folder / f"{form}{seed}"
            for cls in ("Ångström", "b"):
                for i, name in enumerate(names):
                    path = root / unicodedata.normalize(form, f"{cls}/{name}")
                    gray(path, 20 * (cls == "b") + i)
            values.append([])
            attempt(counts, lambda root=root: image_folder(root, 0), values[-1].append)
        (one, found), (two, again) = (rows[0] for rows in values)
        assert found.fingerprint == again.fingerprint and found.classes == again.classes
        for part in one:
            np.testing.assert_array_equal(one[part][0], two[part][0])


# ---- Images.


def odd_images(folder, seeds, counts):
    """One odd image among others: shown upright as a viewer has it, or refused."""
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        picture = np.repeat(np.repeat(rng.integers(0, 255, (2, 2), np.uint8), 8, 0), 8, 1)
        for orientation in range(1, 9):
            root = folder / f"exif {seed} {orientation}"
            for cls in "ab":
                for i in range(5):
                    gray(root / cls / f"{i}.jpg", 0, (16, 16))
                    exif = Image.Exif()
                    exif[0x0112] = orientation
                    Image.fromarray(turned(picture, orientation)).save(
                        root / cls / f"{i}.jpg", exif=exif, quality=95
                    )

            def right(result, picture=picture):
                pixels = result[0]["train"][0][0, ..., 0].astype(int)
                assert abs(pixels - picture.astype(int)).mean() < 6

            attempt(counts, lambda root=root: image_folder(root, 0), right)
        for kind in ("rgb16", "grey16", "float", "int32", "cut", "text", "bomb"):
            root = folder / f"{kind} {seed}"
            for cls in "ab":
                for i in range(5):
                    gray(root / cls / f"{i}.png", i, (8, 8))
            path = root / "b" / "3.png"
            deep = rng.integers(0, 2**16, (8, 8, 3), np.uint16)
            if kind == "rgb16":
                write_png16(path, deep)
            elif kind == "grey16":
                write_png16(path, deep[..., 0])
            elif kind in ("float", "int32"):
                mode = {"float": np.float32, "int32": np.int32}[kind]
                Image.fromarray(deep[..., 0].astype(mode)).save(path, "TIFF")
            elif kind == "cut":
                path.write_bytes(path.read_bytes()[: int(rng.integers(1, 40))])
            elif kind == "text":
                path.write_text("no image")
            else:
                path.write_bytes(path.read_bytes()[:16] + b"\xff\xff\xff\x00" * 2)
            message = attempt(counts, lambda root=root: image_folder(root, 8), None, refused=True)
            assert str(path) in message, message


def turned(picture, orientation):
    """The pixels as a camera stores them that writes this EXIF orientation."""
    undo = {2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180],
            4: [Image.Transpose.FLIP_TOP_BOTTOM], 5: [Image.Transpose.TRANSPOSE],
            6: [Image.Transpose.ROTATE_90], 7: [Image.Transpose.TRANSVERSE],
            8: [Image.Transpose.ROTATE_270]}  # fmt: skip
    image = Image.fromarray(picture)
    for step in undo.get(orientation, []):
        image = image.transpose(step)
    return np.asarray(image)


# ---- Arrays.


def odd_arrays(folder, seeds, counts):
    """Labels, names and byte orders of any kind."""
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        classes = int(rng.integers(2, 6))
        labels = np.r_[np.repeat(np.arange(classes), 6), rng.integers(0, classes, 20)]
        order = rng.choice([">", "<"])
        images = rng.integers(0, 255, (len(labels), 4, 4), np.uint8)
        many = rng.integers(0, 900, (len(labels), 3, 4, 4, 2)).astype(
            f"{order}u{rng.choice([2, 4, 8])}"
        )
        names = [f"größe {i}" for i in range(classes)]
        base = {"images": images, "labels": labels.astype(f"{order}i{rng.choice([2, 4, 8])}")}
        total = np.bincount(labels)
        cases = [
            ("plain", base, True),
            ("counts", base | {"images": many}, True),
            ("names", base | {"class_names": np.array(names)}, True),
            ("bytes", base | {"class_names": np.array([n.encode() for n in names])}, True),
            ("one string", base | {"class_names": "".join(names)}, False),
            ("numbers", base | {"class_names": np.eye(classes)}, False),
            ("from 1", base | {"labels": labels + 1}, False),
            ("a gap", base | {"labels": labels + (labels == classes - 1)}, False),
            ("masks", base | {"labels": (labels > 0) * 255}, False),
            ("negative", base | {"labels": labels - 1}, False),
            ("huge", base | {"labels": labels * 10**6}, False),
            ("columns", base | {"labels": labels[:, None]}, False),
            ("no pixels", base | {"images": images[:, :0]}, False),
            ("empty", {"images": images[:0], "labels": labels[:0]}, False),
            ("test alone", {"train_images": images, "train_labels": labels, "test_images": images,
                            "test_labels": np.r_[labels[:-1], classes]}, False),
        ]  # fmt: skip
        for what, keys, readable in cases:
            path = folder / f"{what} {seed}.npz"
            np.savez(path, **keys)

            def right(result, what=what, keys=keys):
                splits, found = result
                assert len(found.classes) == classes
                if "class_names" in keys:
                    assert list(found.classes) == names, found.classes
                assert sum(np.bincount(s[1], minlength=classes) for s in splits.values()).tolist() \
                    == total.tolist()  # fmt: skip
                assert splits["train"][0].dtype.isnative
                whole = sum(int(s[0].astype(np.int64).sum()) for s in splits.values())
                assert whole == int(keys["images"].astype(np.int64).sum())

            attempt(counts, lambda path=path: arrays(path), right if readable else None,
                    not readable)  # fmt: skip


# ---- Recordings.


def write_events(path, x, y, p, t, layout, rng):
    """Events in one of the layouts that are read; times in microseconds, of [N, 4] milliseconds."""
    if layout == "table":
        np.save(path, np.stack([x, y, p, t / 1000], 1))
        return
    fields = {"x": x.astype(np.int16), "y": y.astype(np.int16), "t": t, "p": p.astype(bool)}
    if layout == "npz":
        np.savez(path.with_suffix(".npz"), **{k: fields[k] for k in rng.permutation([*fields])})
        return
    names = rng.permutation([*fields]).tolist()
    dtype = [
        (name, fields[name].dtype.newbyteorder(">" * (layout == "big") or "=")) for name in names
    ]
    events = np.empty(len(t), dtype)
    for name in names:
        events[name] = fields[name]
    np.save(path, events)


def odd_recordings(folder, seeds, counts):
    """Every layout gives the same frames; wild events, damage and skip_bad are handled."""
    for seed in range(seeds):
        reference = None
        for layout in ("table", "fields", "big", "npz"):
            rng = np.random.default_rng(seed)
            root = folder / f"{layout} {seed}"
            for cls in "ab":
                (root / cls).mkdir(parents=True)
                for i in range(5):
                    x, y, p = rng.integers(0, (16, 16, 2), (200, 3)).T
                    t = np.sort(rng.integers(0, 300_000, 200))
                    x[0], y[0], t[0], t[-1] = 15, 15, 0, 300_000
                    write_events(root / cls / f"{i}.npy", x, y, p, t, layout,
                                 np.random.default_rng(seed))  # fmt: skip
            settings = frames.FrameSettings(0, (16, 16), "time", frame_ms=60.0)

            def read(root=root, settings=settings):
                return frames.load(recordings.find("event_folder", root), settings, root / ".cache")

            def right(splits):
                nonlocal reference
                # Files of another name are divided in another way.
                values = sorted(row.tobytes() for s in splits.values() for row in s[0])
                assert splits["train"][0].shape[1:] == (5, 16, 16, 2)
                reference = reference or values
                assert values == reference

            attempt(counts, read, right)
            # A damaged cache is made again.
            (cached,) = (root / ".cache").glob("*/train.npy")
            content = bytearray(cached.read_bytes())
            at = int(rng.integers(0, len(content) - 16))
            content[at : at + 16] = bytes(b ^ 255 for b in content[at : at + 16])
            cached.write_bytes(content)
            attempt(counts, read, right)
            # One damaged file: refused by name, or left out and counted.
            path = min((root / "a").iterdir())
            whole = path.read_bytes()
            path.write_bytes(whole[: int(rng.integers(1, len(whole) - 1))])
            message = attempt(counts, read, None, refused=True)
            assert str(path) in message, message
            skipping = settings._replace(skip_bad=True)

            def fewer(splits):
                assert sum(len(labels) for _, labels in splits.values()) == 9

            attempt(counts, lambda: read(settings=skipping), fewer)
            # One wild event.
            x[7] = int(rng.choice([300, 5000, 20_000, 32_000]))
            path.unlink()
            write_events(path.with_suffix(".npy"), x, y, p, t, layout, rng)
            message = attempt(counts, read, None, refused=True)
            assert path.stem in message and str(x[7]) in message, message


# ---- Datasets that change between two parts of a run.


def changed_datasets(folder, seeds, counts):
    """Random changes of a folder of images: a run never continues on another dataset."""
    for seed in range(seeds):
        rng, root, run = random.Random(seed), folder / f"set {seed}", folder / f"run {seed}"
        for part in ("train", "test"):
            for cls in "ab":
                for i in range(5):
                    gray(root / part / cls / f"{i}.png", rng.randint(0, 255))

        def start(root=root, run=run):
            sets.look_at_images.cache_clear()
            settings = config.base_config()
            settings.update({"dataset": "image_folder", "data_dir": str(root), "model": "tiny"})
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    config.find(settings)
                    config.claim(run, settings)
            except config.ConfigError as error:
                raise DataError(str(error)) from error
            return settings

        attempt(counts, start, lambda _: None)
        attempt(counts, start, lambda _: None)
        paths = sorted(root.rglob("*.png"))
        one, two = rng.sample(paths, 2)
        change = rng.choice(["swap", "rename", "pixel", "remove", "copy"])
        if change == "swap":
            content = one.read_bytes()
            same = content == two.read_bytes()
            one.write_bytes(two.read_bytes())
            two.write_bytes(content)
        else:
            same = False
            if change == "rename":
                one.rename(one.with_name("z.png"))
            elif change == "pixel":
                Image.fromarray(np.arange(36, dtype=np.uint8).reshape(6, 6)).save(one)
            elif change == "remove":
                one.unlink()
            else:
                one.with_name("y.png").write_bytes(one.read_bytes())
        attempt(counts, start, (lambda _: None) if same else None, refused=not same)


def user_datasets(folder, seeds):
    """All of them; returns how many tries were read right and how many refused."""
    counts = {"tries": 0, "read_right": 0, "refused": 0}
    for part in (
        odd_folders, same_split_in_every_form, odd_images, odd_arrays, odd_recordings,
        changed_datasets,
    ):  # fmt: skip
        inside = folder / part.__name__
        inside.mkdir()
        part(inside, seeds, counts)
    return counts
