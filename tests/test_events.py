"""Events to frames, and the formats they are read from."""

import numpy as np
import pytest
import tonic
from event_files import SUFFIX, WRITERS, draw_events, write_aedat3

from dalif_jax.data.events import aedat, events, moving_digits, recordings
from dalif_jax.data.events.events import BadRecording, make_events, to_frames

SENSOR = (128, 128)


def tonics(seen, **how):
    """tonic's own frames of the same events, in our order of axes."""
    record = np.empty(len(seen), tonic.datasets.CIFAR10DVS.dtype)
    for name in "txyp":
        record[name] = seen[name]
    frames = tonic.transforms.ToFrame(sensor_size=(*SENSOR, 2), **how)(record)
    return frames.transpose(0, 2, 3, 1)


# ---- Frames.


@pytest.mark.parametrize("timesteps", [1, 3, 10, 16])
@pytest.mark.parametrize("count", [1600, 2003])
def test_frames_by_number_are_tonics_and_lose_no_event(timesteps, count):
    seen = draw_events(count)
    ours = to_frames(seen, SENSOR, SENSOR, timesteps)
    theirs = tonics(seen, n_event_bins=timesteps)
    assert ours.shape == (timesteps, *SENSOR, 2) and ours.sum() == count
    np.testing.assert_array_equal(ours[:-1], theirs[:-1])
    # tonic leaves out the remainder of the division; here it is in the last frame.
    left_out = count % timesteps
    assert theirs.sum() == count - left_out
    rest = seen[count - left_out :]
    np.add.at(theirs, (-1, rest["y"], rest["x"], rest["p"]), 1)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("timesteps", [1, 4, 16])
def test_frames_by_time_are_tonics_and_lose_no_event(timesteps):
    seen = draw_events(2000)
    ours = to_frames(seen, SENSOR, SENSOR, timesteps, "time")
    theirs = tonics(seen, n_time_bins=timesteps)
    assert ours.sum() == 2000 and theirs.sum() < 2000
    np.testing.assert_array_equal(ours[:-1], theirs[:-1])
    assert (ours[-1] >= theirs[-1]).all()


def test_a_frame_may_be_empty_by_time():
    seen = make_events([0, 1, 2, 900, 1000], [1] * 5, [2] * 5, [1] * 5)
    frames = to_frames(seen, SENSOR, SENSOR, 4, "time")
    assert frames.sum((1, 2, 3)).tolist() == [3, 0, 0, 2]


def test_counts_do_not_overflow():
    """One busy pixel passes tonic's int16, which comes back negative."""
    seen = make_events(np.arange(70_000), np.full(70_000, 5), np.full(70_000, 6), np.ones(70_000))
    assert tonics(seen, n_event_bins=2)[0, 6, 5, 1] < 35_000
    frames = to_frames(seen, SENSOR, SENSOR, 1)
    assert frames[0, 6, 5, 1] == 70_000 == frames.sum()


@pytest.mark.parametrize("size", [64, 48, 100, 1])
def test_sum_puts_every_event_in_one_pixel(size):
    seen = draw_events(3000)
    small = to_frames(seen, SENSOR, (size, size), 4)
    assert small.sum() == 3000
    whole = to_frames(seen, SENSOR, SENSOR, 4)
    if size == 64:
        blocks = whole.reshape(4, 64, 2, 64, 2, 2).sum((2, 4))
        np.testing.assert_array_equal(small, blocks)
    np.testing.assert_array_equal(small.sum((1, 2)), whole.sum((1, 2)))


@pytest.mark.parametrize("size", [64, 48, 200])
def test_bilinear_is_the_public_pipelines(size):
    """Linear interpolation without antialias, half-pixel centres; at half size a quarter of sum."""
    import jax

    seen = draw_events(3000)
    ours = to_frames(seen, SENSOR, (size, size), 3, resize="bilinear")
    whole = to_frames(seen, SENSOR, SENSOR, 3).astype(np.float32)
    reference = jax.image.resize(whole, ours.shape, "linear", antialias=False)
    np.testing.assert_allclose(ours, reference, atol=2e-5)
    if size == 64:
        np.testing.assert_allclose(ours, to_frames(seen, SENSOR, (64, 64), 3) / 4, atol=1e-6)


def test_events_out_of_order_are_sorted():
    """Unsorted, tonic's time bins are empty without a word."""
    seen = draw_events(500)
    mixed = seen[np.random.default_rng(1).permutation(500)]
    np.testing.assert_array_equal(events.check(mixed, SENSOR)["t"], seen["t"])


@pytest.mark.parametrize(
    ("seen", "split_by", "message"),
    [
        (draw_events(0), "number", "no events"),
        (draw_events(9), "number", "9 events cannot fill 10 frames"),
        (make_events([7] * 20, [1] * 20, [1] * 20, [1] * 20), "time", "0 us cannot be cut into 10"),
        (make_events([1], [128], [0], [1]), "number", "outside the sensor: x .* 128, .* 0 to 127"),
        (make_events([1], [3], [-2], [1]), "number", "outside the sensor: y reaches from -2"),
    ],
)
def test_what_would_be_frames_of_zeros_is_refused(seen, split_by, message):
    with pytest.raises(BadRecording, match=message):
        to_frames(events.check(seen, SENSOR), SENSOR, SENSOR, 10, split_by)


# ---- Formats.


def written(tmp_path, name, count=2500):
    seen = draw_events(count, 34 if name == "nmnist" else 128)
    if name == "gesture_npy":
        seen["t"] -= seen["t"] % 1000  # it keeps milliseconds
    path = tmp_path / f"x.{SUFFIX[name]}"
    WRITERS[name](path, seen)
    return path, seen


def uncached(name):
    return getattr(recordings.READERS[name], "__wrapped__", recordings.READERS[name])


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_its_events(tmp_path, name):
    path, seen = written(tmp_path, name)
    np.testing.assert_array_equal(uncached(name)(str(path)), seen)


def test_both_editions_of_cifar10dvs_give_the_same_frames(tmp_path):
    frames = []
    for name in ("aedat2", "aedat4"):
        path, _ = written(tmp_path, name)
        seen = events.check(recordings.READERS[name](str(path)), SENSOR)
        frames.append(to_frames(seen, SENSOR, (64, 64), 16))
    np.testing.assert_array_equal(*frames)


def test_times_of_aedat3_go_on_after_their_31_bits(tmp_path):
    seen = draw_events(10)
    write_aedat3(tmp_path / "x.aedat", seen, overflow=1)
    later = aedat.read_aedat3(tmp_path / "x.aedat")
    np.testing.assert_array_equal(later["t"], seen["t"] + 2**31)


@pytest.mark.parametrize("name", WRITERS)
def test_cut_files_are_refused(tmp_path, name):
    path, _ = written(tmp_path, name)
    whole = path.read_bytes()
    for keep in (0, 3, len(whole) // 2 + 1, len(whole) - 3):
        path.write_bytes(whole[:keep])
        with pytest.raises(BadRecording):
            events.check(uncached(name)(str(path)), SENSOR)


@pytest.mark.parametrize("name", sorted(set(WRITERS) - {"aedat4"}))
def test_damaged_files_are_read_or_refused(tmp_path, name):
    """200 files a format with random bytes in them: frames or BadRecording, nothing else. AEDAT-4,
    whose decoder can abort, is in test_conversion."""
    path, _ = written(tmp_path, name, 300)
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for number in range(200):
        data = bytearray(whole)
        if number % 2:
            for place in rng.integers(0, min(len(data), 400), 4):
                data[place] = rng.integers(256)
        else:
            data = rng.integers(0, 256, rng.integers(0, 500)).astype(np.uint8).tobytes()
        path.write_bytes(data)
        try:
            seen = events.check(uncached(name)(str(path)), SENSOR)
            assert to_frames(seen, SENSOR, (8, 8), 1).sum() == len(seen)
        except BadRecording:
            refused += 1
    assert refused >= 30


# ---- Simulated digits.


def test_simulated_digits_are_what_a_camera_sends():
    """Deterministic; ordered in time; after one round a pixel has seen as much up as down."""
    source = recordings.find("digits_dvs")
    assert {s: len(r) for s, r in source.splits.items()} == {
        "train": 1150, "test": 287, "unseen_writers": 360,
    }  # fmt: skip
    for row in source.splits["train"][:5]:
        seen = recordings.read(row, source)
        np.testing.assert_array_equal(seen, recordings.read(row, source))
        assert (np.diff(seen["t"]) >= 0).all()
        assert seen["t"][0] >= 0 and seen["t"][-1] <= moving_digits.DURATION
        up_less_down = np.zeros(moving_digits.SENSOR, int)
        np.add.at(up_less_down, (seen["y"], seen["x"]), 2 * seen["p"].astype(int) - 1)
        assert np.abs(up_less_down).max() <= 1


def test_events_of_a_pixel_are_its_log_intensity_in_steps_of_the_threshold():
    """Without mismatch the count of events up to any moment is the change so far, to one step."""

    class Exact:
        def normal(self, mean, deviation, shape):
            return np.full(shape, mean)

    image = np.zeros((8, 8))
    image[3, 4] = 1.0
    seen = moving_digits.record(image, Exact())
    angle = 2 * np.pi * np.arange(moving_digits.POSITIONS + 1) / moving_digits.POSITIONS
    rows = moving_digits._weights(16, 8, moving_digits.RADIUS * np.sin(angle))
    columns = moving_digits._weights(16, 8, moving_digits.RADIUS * np.cos(angle))
    light = np.log(0.1 + 0.9 * rows[:, :, 3, None] * columns[:, None, :, 4])
    times = np.linspace(0, moving_digits.DURATION, len(angle))
    for k in (15, 30, 45, 60):
        before = seen[seen["t"] <= times[k]]
        count = np.zeros((16, 16))
        np.add.at(count, (before["y"], before["x"]), 2.0 * before["p"] - 1)
        error = (light[k] - light[0]) / moving_digits.THRESHOLD - count
        assert np.abs(error).max() <= 1 + 1e-6
    assert np.abs(light - light[0]).max() / moving_digits.THRESHOLD > 3


def test_digits_that_move_stay_on_the_sensor():
    rows = moving_digits._weights(16, 8, np.array([-moving_digits.RADIUS, moving_digits.RADIUS]))
    # Every pixel of the image is seen with the same total weight wherever it has moved.
    np.testing.assert_allclose(rows.sum(1), moving_digits.SCALE, atol=0.51)
