"""Files are written whole or not at all, and never through a link."""

import os
import stat

import pytest

from dalif_jax.atomic_write import atomic_write


@pytest.mark.parametrize(
    "content", ["é\n", "é\n".encode(), lambda file: file.write("é\n".encode())]
)
def test_atomic_write_content_is_written(tmp_path, content):
    path = tmp_path / "file"
    atomic_write(path, content)
    assert path.read_bytes() == "é\n".encode()
    assert os.listdir(tmp_path) == ["file"]


def test_atomic_write_link_is_replaced_and_target_stays(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    path = tmp_path / "file"
    path.symlink_to(outside)
    atomic_write(path, "new")
    assert outside.read_text() == "mine"
    assert not path.is_symlink()
    assert path.read_text() == "new"


def test_atomic_write_failure_keeps_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        atomic_write(path, fail)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_atomic_write_longest_name_is_written(tmp_path):
    path = tmp_path / ("x" * 255)
    atomic_write(path, "text")
    assert path.read_text() == "text"


def test_atomic_write_mode_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        atomic_write(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
