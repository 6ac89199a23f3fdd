"""Events as the compared systems' authors fed them: by time, resized, in slices, some frames."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from event_files import draw_events
from PIL import Image

from configs.base import get_config as base
from dalif_jax import training
from dalif_jax.data.events import event_augment, events, frames, moving_digits
from dalif_jax.data.events.events import make_events, slices, to_frames
from dalif_jax.settings import config
from dalif_jax.training.updates import fallen


def at(*times):
    """Events at such microseconds, one pixel each."""
    return make_events(np.array(times), *([np.arange(len(times)) % 8] * 2), np.ones(len(times)))


def test_frames_of_a_duration_begin_with_the_first_event():
    seen = at(1000, 1999, 2000, 3500, 6100)
    assert slices(seen, 4, "time", 1000) == [(0, 2), (2, 3), (3, 4), (4, 4)]  # 6100 is left out
    assert slices(seen, 7, "time", 1000)[-3:] == [(4, 4), (4, 5), (5, 5)]  # and here an empty one
    # As many as it fills: 5 of the 5.1 ms.
    assert len(slices(seen, 0, "time", 1000)) == 5 and len(slices(seen, 0, "time", 10_000)) == 1
    counted = to_frames(seen, (8, 8), (8, 8), 4, "time", frame_us=1000)
    assert counted.sum((1, 2, 3)).tolist() == [2, 1, 1, 0] and counted.dtype == np.uint32


@pytest.mark.parametrize(("before", "after"), [(128, 48), (34, 10), (16, 32), (8, 8), (5, 3)])
def test_resized_frames_are_those_of_others(before, after):
    """area: means over windows that reach into a pixel, as an adaptive average pool; antialias: as
    Pillow makes images smaller."""
    row = np.random.default_rng(0).random(before).astype(np.float32)
    edges = [(i * before // after, -(-(i + 1) * before // after)) for i in range(after)]
    expected = [row[start:stop].mean() for start, stop in edges]
    np.testing.assert_allclose(events.area(before, after) @ row, expected, rtol=1e-6)
    image = Image.fromarray(np.tile(row, (4, 1)), mode="F")
    expected = np.asarray(image.resize((after, 4), Image.Resampling.BILINEAR))[0]
    np.testing.assert_allclose(events.antialias(before, after) @ row, expected, atol=1e-5)


@pytest.mark.parametrize("resize", ["sum", "antialias"])
def test_frames_as_images_of_8_bits(resize):
    seen = events.check(draw_events(400, 32, seed=3), (32, 32))
    made = to_frames(seen, (32, 32), (16, 16), 3, resize=resize, values="8bit")
    assert made.dtype == np.float32 and made.min() >= 0.0 and 0.1 < made.max() <= 1.0
    np.testing.assert_allclose(np.rint(255 * made), 255 * made, atol=1e-4)
    counts = to_frames(seen, (32, 32), (16, 16), 3)
    if resize == "sum":
        largest = counts.max((1, 2, 3), keepdims=True)
        np.testing.assert_allclose(made, counts / largest, atol=0.5 / 255 + 1e-6)
        assert (made.max((1, 2, 3)) == 1).all()


def test_caches_made_before_are_found(monkeypatch):
    """What came later is part of a cache's name only where it is used."""
    settings = frames.FrameSettings(4, (16, 16))
    plain = [4, (16, 16), "number", "sum", False]
    source = type("Source", (), {"splits": {}, "name": "x", "edition": "y"})
    assert frames.describe(source, settings)["settings"] == plain
    timed = settings._replace(frame_ms=25.0, frame_values="8bit")
    assert frames.describe(source, timed)["settings"] == [*plain, 25.0, "8bit"]


def counted(length, filled):
    """[length, 2, 2, 2]: frame t holds t + 1, those from `filled` on nothing."""
    t = np.arange(length) + 1.0
    return jnp.asarray(np.where(t <= filled, t, 0.0)[:, None, None, None] * np.ones((1, 2, 2, 2)))


def test_a_random_slice_lies_in_what_was_recorded():
    starts = {
        int(event_augment.random_slice(jax.random.key(k), counted(12, 7), 3)[0, 0, 0, 0])
        for k in range(60)
    }
    assert starts == {1, 2, 3, 4, 5}
    whole = event_augment.random_slice(jax.random.key(0), counted(4, 2), 3)
    assert whole[:, 0, 0, 0].tolist() == [1, 2, 0]  # shorter than a slice: from its start
    spread = event_augment.spread_slices(counted(12, 10), 4, 3)
    assert spread[:, :, 0, 0, 0].tolist() == [[1, 2, 3, 4], [4, 5, 6, 7], [7, 8, 9, 10]]


def test_frames_drawn_stay_in_order():
    drawn = [event_augment.random_frames(jax.random.key(k), counted(8, 8), 5) for k in range(20)]
    orders = {tuple(each[:, 0, 0, 0].tolist()) for each in drawn}
    assert len(orders) > 10 and all(list(o) == sorted(set(o)) for o in orders)


def test_a_crop_moves_all_frames_alike():
    x = jnp.asarray(np.random.default_rng(0).integers(1, 9, (3, 6, 6, 2)))
    moved = np.stack([event_augment.crop(jax.random.key(k), x, 2) for k in range(30)])
    assert moved.shape == (30, 3, 6, 6, 2) and len({each.tobytes() for each in moved}) > 8
    empty = (moved == 0).all(-1)
    assert (empty == empty[:, :1]).all()


def settings_of(**keys):
    found = base()
    found.update({"model": "tiny", "dataset": "digits_dvs", "augment": (), "epochs": 2,
                  "timesteps": 3, "batch_size": 8, "eval_batch_size": 8} | keys)  # fmt: skip
    return found


TIMED = {"split_by": "time", "frame_ms": 25.0}
REFUSED = [
    ({"frame_ms": 25.0}, "frame_ms=25 is for split_by=time"),
    (TIMED | {"frame_ms": 1e-4}, "below a microsecond"),
    ({"test_slices": 10}, "test_slices=10 needs frame_ms, and split_by=time"),
    ({"train_timesteps": 3}, "train_timesteps=3 must be below timesteps=3"),
    ({"train_timesteps": 2, "neuron": "glif"}, "neuron=glif has numbers for each of 3 timesteps"),
    ({"train_timesteps": 2, "attention": "pfa"}, "attention=pfa has numbers for each of 3"),
    ({"attention": "ta"}, "attention=ta: attention_options.reduction=16 needs at least as many"),
    ({"frame_values": "16bit"}, "unknown frame_values '16bit'; known: counts, 8bit"),
]  # fmt: skip


@pytest.mark.parametrize(("keys", "words"), REFUSED)
def test_what_makes_no_sense_is_refused(keys, words):
    with pytest.raises(config.ConfigError, match=words):
        config.validate(settings_of(**keys))


def test_keys_of_events_do_nothing_to_images():
    told = {"frame_ms": 25.0, "split_by": "time", "frame_values": "8bit", "train_timesteps": 2,
            "test_slices": 4}  # fmt: skip
    lines = list(config.without_effect(settings_of(dataset="digits", **told), "cpu"))
    assert {line.split("=")[0] for line in lines} >= set(told)
    # Nothing: what trains and measures images is the same program.
    lowered = []
    for keys in ({}, told):
        program = program_of(settings_of(dataset="digits", **keys))
        images, labels = np.zeros((8, 8, 8, 1), np.uint8), np.zeros(8, np.int32)
        order, valid = np.zeros((2, 8), np.int32), np.ones(8, bool)
        state = jax.eval_shape(program.init)
        train = program.train_step.lower(state, images, labels, order)
        measure = program.eval_step.lower(state, images, labels, order[0], valid)
        lowered.append((train.as_text(), measure.as_text()))
    assert lowered[0] == lowered[1]


def program_of(settings):
    return training.make_program(settings, 2, training.make_mesh(jax.devices()[:1]))


def recorded(count=8, length=9):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 4, (count, length, 16, 16, 2), np.uint8)
    for i in range(count):
        images[i, 3 + i % 7 :] = 0  # shorter recordings end with empty frames
    return images, rng.integers(0, 10, count, np.int32)


def test_more_than_half_of_a_recording_s_slices_decide(x64):
    """The eval step against each slice as an example of its own."""
    settings = settings_of(test_slices=5, dtype="float64", **TIMED)
    program, plain = program_of(settings), program_of(settings_of(dtype="float64"))
    state = program.init()
    images, _ = recorded()
    each = jnp.concatenate([event_augment.spread_slices(x, 3, 5) for x in jnp.asarray(images)])
    one = lambda i, label: jax.device_get(  # noqa: E731
        plain.eval_step(state, each, np.full(40, label, np.int32), np.array([i], np.int32),
                        np.array([True]))
    )  # fmt: skip
    answers = [[int(np.argmax(one(5 * i + j, 0)["confusion"][0])) for j in range(5)]
               for i in range(8)]  # fmt: skip
    # Labels such that some are right by a majority, some have a vote, some none.
    labels = np.array([row[0] if i % 2 else (row[-1] + i) % 10 for i, row in enumerate(answers)],
                      np.int32)  # fmt: skip
    valid = np.array([1] * 7 + [0], bool)
    found = program.eval_step(state, images, labels, np.arange(8, dtype=np.int32), valid)
    right = [2 * row.count(int(label)) > 5 for row, label in zip(answers, labels, strict=True)]
    assert int(found["correct"]) == sum(right[:7]) and 0 < sum(right[:7]) < 7
    assert int(found["examples"]) == 7 and int(found["shown"]) == 35
    assert int(np.trace(found["confusion"])) == sum(right[:7])
    spikes = sum(int(one(k, 0)["spikes"]["stem0_neuron"].sum()) for k in range(35))
    assert int(found["spikes"]["stem0_neuron"].sum()) == spikes


@pytest.mark.parametrize("keys", [{"train_timesteps": 2}, TIMED | {"test_slices": 4}])
def test_a_step_is_shown_its_frames_alone(keys):
    """Whole recordings, or all frames, go in; as many as it is to see reach the network."""
    settings = settings_of(**keys)
    program = program_of(settings)
    images, labels = recorded(length=9 if "test_slices" in keys else 3)
    order = jnp.arange(8, dtype=jnp.int32)[None].repeat(2, 0)
    lowered = program.train_step.lower(program.init(), images, labels, order).as_text()
    shown = settings.train_timesteps or settings.timesteps
    assert f"tensor<8x{shown}x16x16x8xf32>" in lowered
    _, metrics = program.train_step(program.init(), images, labels, order)
    assert np.isfinite(float(metrics["loss"]))


def test_the_rate_falls_where_the_loss_does_not(monkeypatch):
    """As PyTorch's ReduceLROnPlateau: with patience 1 the second epoch without a lower loss."""
    settings = settings_of(schedule="plateau", schedule_epochs=1, schedule_factor=0.5, epochs=9,
                           optimizer="adam")  # fmt: skip
    optimizer = training.make_optimizer(settings, training.make_schedule(settings, 2), None, 2)
    params = {"w": jnp.ones(3)}
    state, seen = optimizer.init(params), []
    for loss in (1.0, 0.8, 0.9, 0.9, 0.95, 0.7, 0.7, 0.7, 0.7):
        for _ in range(2):  # steps of an epoch
            _, state = optimizer.update(params, state, params, value=jnp.float32(loss))
        seen.append(float(fallen(state)))
    assert seen == [1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]
    with pytest.raises(config.ConfigError, match="schedule=plateau needs schedule_epochs"):
        config.validate(settings_of(schedule="plateau"))


def test_a_recording_in_slices_from_file_to_accuracy(tmp_path):
    """The simulated digits, 12 frames of 25 ms in each 300 ms: trained on 4 in a row, tested on 3
    slices of each."""
    settings = settings_of(test_slices=3, timesteps=4, cache_dir=str(tmp_path), **TIMED)
    monkey = {part: rows[:6] for part, rows in moving_digits.splits().items()}
    original, moving_digits.splits = moving_digits.splits, lambda: monkey
    try:
        loaded = config.load_data(settings)
    finally:
        moving_digits.splits = original
    images, labels = loaded["train"]
    assert images.shape[0] == 6 and images.shape[1] in (11, 12) and len(labels) == 6
    assert images[:, 0].any() and images.dtype == np.uint8
