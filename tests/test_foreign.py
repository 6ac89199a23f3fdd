"""Recordings that are not what their name says: refused with what they are, or read rightly."""

import json

import data_campaign
import foreign_campaign
import numpy as np
import pytest
from event_files import SUFFIX, WRITERS, draw_events, write_aedat2, write_aedat3, write_aedat4

from dalif_jax import strict_json
from dalif_jax.data.events import aedat, events, recordings
from dalif_jax.data.events.events import BadRecording, make_events


def test_no_file_is_read_as_what_it_is_not(tmp_path):
    found = data_campaign.foreign_headers(tmp_path, 2)
    assert found["silent_errors"] == 0 and found["refused"] > 120 and found["read_right"] > 40


@pytest.mark.parametrize(
    ("reader", "write", "message"),
    [
        ("aedat2", write_aedat3, r"^is AEDAT 3\.1, but 2\.0 is expected here$"),
        ("aedat2", write_aedat4, r"^is AEDAT 4\.0, but 2\.0 is expected here$"),
        ("aedat3", write_aedat2, r"^is AEDAT 2\.0, but 3\.1 is expected here$"),
        ("aedat4", write_aedat2, r"^is AEDAT 2\.0, but 4\.0 is expected here$"),
        ("aedat3", WRITERS["nmnist"], r"^is no AEDAT file: it does not start with #!AER-DAT"),
        (
            "aedat2",
            lambda path, seen: write_aedat2(path, seen, data_campaign.DAVIS),
            r"^is of another camera, .*DAVIS240C; expected DVS128$",
        ),
        (
            "aedat2",
            lambda path, seen: write_aedat2(path, seen, b"# Timestamps tick is 10 us\r\n"),
            r"^counts time in 10 us, not in 1 us$",
        ),
        (
            "aedat3",
            lambda path, seen: write_aedat3(path, seen, more=b"#Source 1: DAVIS346\r\n"),
            r"^is of another camera, DAVIS346; expected DVS128$",
        ),
        (
            "aedat4",
            lambda path, seen: write_aedat4(path, seen, size=(180, 240)),
            r"^is of another camera: events of 180x240 pixels; expected DVS128$",
        ),
    ],
)
def test_a_refusal_says_what_the_file_is(tmp_path, reader, write, message):
    write(tmp_path / f"x.{SUFFIX[reader]}", draw_events(300))
    with pytest.raises(BadRecording, match=message):
        data_campaign.read(reader, tmp_path / f"x.{SUFFIX[reader]}")


def test_what_the_camera_notes_of_its_socket_is_no_event(tmp_path):
    """Bit 15 of an AEDAT-2 address: jAER's DVS128 calls these special, of no pixel."""
    seen = draw_events(300)
    write_aedat2(tmp_path / "x.aedat", seen)
    whole = bytearray((tmp_path / "x.aedat").read_bytes())
    for number in (0, 7, 299):
        whole[len(whole) - 8 * (300 - number) + 2] |= 0x80
    (tmp_path / "x.aedat").write_bytes(whole)
    expected = np.delete(seen, [0, 7, 299])
    np.testing.assert_array_equal(aedat.read_aedat2(tmp_path / "x.aedat"), expected)


@pytest.mark.parametrize(
    ("raw", "bits", "times"),
    [
        ([5, 6, 7], 8, [5, 6, 7]),
        ([250, 255, 3, 9], 8, [250, 255, 259, 265]),  # past 8 bits
        ([250, 3, 254, 9], 8, [250, 259, 254, 265]),  # one of before comes late
        ([3, 254, 9], 8, [3, -2, 9]),  # and as the second of all
        ([200, 100, 220], 8, [200, 100, 220]),  # less than half: for `check` to judge
        ([250, 10, 250, 10], 8, [250, 266, 250, 266]),
        ([100, 200, 40, 140, 240, 80], 8, [100, 200, 296, 396, 496, 592]),  # twice
        ([], 8, []),
    ],
)
def test_times_go_on_after_the_end_of_their_counter(raw, bits, times):
    assert events.unwrap(np.array(raw, np.uint32), bits).tolist() == times


def test_a_leap_ahead_is_no_end_of_a_counter():
    with pytest.raises(BadRecording, match=r"leaps ahead by 3,000,000,000 us"):
        events.unwrap(np.array([5, 3_000_000_005, 3_000_000_009], np.uint32), 32)


def falling(step, at=(500,), count=1000):
    """In order, but for falls by `step` at some places."""
    t = np.arange(count, dtype=np.int64) * 40 + 10**6
    for place in at:
        t[place:] -= step + 40
    return make_events(t, np.zeros(count, int), np.zeros(count, int), np.ones(count, int))


@pytest.mark.parametrize(
    ("seen", "refused"),
    [
        (falling(0), False),
        (falling(9_000), False),  # jitter
        (falling(20_000), True),
        (falling(20_000, (100, 400, 900)), True),
        (falling(0)[np.random.default_rng(0).permutation(1000)], False),  # in no order at all
        (falling(0)[::-1], False),
    ],
)
def test_a_clock_that_was_set_back_is_refused_and_jitter_sorted(seen, refused):
    if refused:
        with pytest.raises(BadRecording, match=r"time falls back by 20,000 us after event \d*99: "):
            events.check(seen, (1, 1))
    else:
        np.testing.assert_array_equal(events.check(seen, (1, 1))["t"], np.sort(seen["t"]))


@pytest.mark.parametrize(
    ("p", "on"),
    [
        ([0, 1, 1], [0, 1, 1]),
        ([-1, 1, -1], [0, 1, 0]),
        ([-1.0, 1.0, 1.0], [0, 1, 1]),
        ([True, False, True], [1, 0, 1]),
        ([0, 0, 0], [0, 0, 0]),
        ([1, 1, 1], [1, 1, 1]),
        ([], []),
        ([0, 1, 2], None),
        ([-1, 0, 1], None),
        ([0.5, 1, 0], None),
        ([np.nan, 1, 0], None),
        ([255, 1, 255], None),
    ],
)
def test_polarities_are_two(p, on):
    zeros = np.zeros(len(p), int)
    if on is None:
        with pytest.raises(BadRecording, match="neither 0 and 1 nor -1 and 1"):
            make_events(zeros, zeros, zeros, p)
    else:
        assert make_events(zeros, zeros, zeros, p)["p"].tolist() == on


@pytest.mark.parametrize("name", WRITERS)
def test_a_foreign_file_in_a_folder_is_refused(tmp_path, name):
    """Through the set's own layout: every format among N-MNIST's."""
    path = tmp_path / "Train" / "3" / "00001.bin"
    path.parent.mkdir(parents=True)
    (tmp_path / "Test" / "3").mkdir(parents=True)
    written = tmp_path / f"x.{SUFFIX[name]}"
    WRITERS[name](written, draw_events(300, 34))
    path.write_bytes(written.read_bytes())
    (tmp_path / "Test" / "3" / "00002.bin").write_bytes(written.read_bytes())
    source = recordings.find("nmnist", tmp_path, partial=True)
    (row,) = source.splits["train"]
    if name == "nmnist":
        assert len(recordings.read(row, source)) == 300
    else:
        with pytest.raises(BadRecording, match=r"is an AEDAT or NumPy file|truncated"):
            recordings.read(row, source)


@pytest.mark.parametrize("part", ["tensors", "logs"])
def test_foreign_files_are_refused_in_one_line(tmp_path, part):
    counts = foreign_campaign.PARTS[part](tmp_path)
    assert counts["refused"] > 60


@pytest.mark.slow
@pytest.mark.parametrize("part", ["json_of_cards", "graph_files", "archives", "names"])
def test_more_foreign_files_are_refused_in_one_line(tmp_path, part):
    counts = foreign_campaign.PARTS[part](tmp_path)
    assert sum(counts.values()) >= 20


@pytest.mark.parametrize("data", foreign_campaign.ODD_JSON)
def test_strict_json_refuses_what_is_no_object(tmp_path, data):
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(strict_json.JSONError, match=r"x\.json is not readable as JSON"):
        strict_json.read(tmp_path / "x.json")


def test_strict_json_reads_what_programs_write(tmp_path):
    values = {"a": [1, -2.5, None, True, "\u00e9\udcff"], "b": {"c": {"d": 2**60}}}
    for mark in ("", "\ufeff"):
        (tmp_path / "x.json").write_text(mark + json.dumps(values), encoding="utf-8")
        assert strict_json.read(tmp_path / "x.json") == values
    with pytest.raises(strict_json.JSONError, match="at most 10 are read"):
        strict_json.read(tmp_path / "x.json", max_bytes=10)
