"""Folders of ImageNet as tensorflow-datasets prepares them, with real JPEG files, for tests.

python tests/imagenet_files.py FOLDER --train 512 --width 500 --height 375
"""

import argparse
import functools
import io
import json
from pathlib import Path

import google_crc32c
import numpy as np
from PIL import Image

from dalif_jax.data.records import CHECKSUM, HEADER, Records, newest_version


@functools.cache
def photo(number):
    from sklearn.datasets import load_sample_image

    return load_sample_image(("china.jpg", "flower.jpg")[number])


def jpeg(i, width, height, quality=95):
    """The bytes of a JPEG file: a piece of one of scikit-learn's two photographs."""
    whole, draw = photo(i % 2), np.random.default_rng(i)
    # No smaller than the result: enlarged pieces would be smooth, their files small and quick.
    h, w = int(draw.integers(min(height, 426), 427)), int(draw.integers(min(width, 639), 640))
    y, x = int(draw.integers(0, 427 - h + 1)), int(draw.integers(0, 640 - w + 1))
    file = io.BytesIO()
    piece = Image.fromarray(whole[y : y + h, x : x + w]).resize((width, height))
    piece.save(file, "JPEG", quality=quality)
    return file.getvalue()


def prepare(root, train, validation, file_format="array_record", shards=1):
    """Write <root>/imagenet2012/5.1.0 of lists of (JPEG bytes, label), without TensorFlow.

    Returns the folder. The records lie in the order in which tensorflow-datasets shuffles them.
    """
    import tensorflow_datasets as tfds

    class Imagenet2012(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("5.1.0")
        name = "imagenet2012"

        def _info(self):
            features = {
                "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(num_classes=1000),
                "file_name": tfds.features.Text(),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, _):
            return {"train": self._pairs(train), "validation": self._pairs(validation)}

        def _generate_examples(self):
            raise NotImplementedError

        def _pairs(self, pairs):
            for i, (image, label) in enumerate(pairs):
                name = f"{i:06d}.JPEG"
                yield name, {"image": io.BytesIO(image), "label": label, "file_name": name}

    Imagenet2012(data_dir=root, file_format="array_record").download_and_prepare()
    folder = newest_version(Path(root) / "imagenet2012")
    if (file_format, shards) != ("array_record", 1):
        cut(folder, file_format, shards)
    return folder


def cut(folder, file_format, shards):
    """Rewrite a prepared folder's records in another format, in so many files."""
    from array_record.python.array_record_module import ArrayRecordWriter

    about = json.loads((folder / "dataset_info.json").read_text())
    for split in about["splits"]:
        records = Records(about["name"], folder, split["name"])
        whole = [records[i] for i in range(len(records))]
        records.paths[0].unlink()
        borders = np.linspace(0, len(whole), shards + 1).astype(int)
        for shard in range(shards):
            part = whole[borders[shard] : borders[shard + 1]]
            name = f"{about['name']}-{split['name']}.{file_format}-{shard:05d}-of-{shards:05d}"
            if file_format == "tfrecord":
                (folder / name).write_bytes(b"".join(map(framed, part)))
            else:
                writer = ArrayRecordWriter(str(folder / name), "group_size:1")
                for record in part:
                    writer.write(record)
                writer.close()
        split["shardLengths"] = [str(n) for n in np.diff(borders)]
    about["fileFormat"] = file_format
    (folder / "dataset_info.json").write_text(json.dumps(about))


def framed(record):
    """A record as TFRecord files hold it, by their description at
    https://www.tensorflow.org/tutorials/load_data/tfrecord."""

    def masked(data):
        crc = google_crc32c.value(data)
        return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32

    length = len(record).to_bytes(8, "little")
    header = HEADER.pack(len(record), masked(length))
    return header + record + CHECKSUM.pack(masked(record))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--train", type=int, default=512)
    parser.add_argument("--validation", type=int, default=64)
    parser.add_argument("--width", type=int, default=500)
    parser.add_argument("--height", type=int, default=375)
    parser.add_argument("--format", default="tfrecord", choices=("tfrecord", "array_record"))
    given = parser.parse_args()

    def some(first, count):
        return [(jpeg(first + i, given.width, given.height), i % 1000) for i in range(count)]

    print(prepare(given.folder, some(0, given.train), some(10**6, given.validation), given.format))


if __name__ == "__main__":
    main()
