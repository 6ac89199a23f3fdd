"""Memory that the machine, or the container around this process, has left."""

from contextlib import suppress
from pathlib import Path


def available(proc="/proc", cgroups="/sys/fs/cgroup"):
    """Bytes that can still be allocated; None where the system does not report them.

    The page cache counts as available, because the kernel drops it on demand. In a container the
    smallest limit of its control groups applies, less what they use without page cache.

    Args:
      proc, cgroups: the mounted file systems, other ones in tests.
    """
    limits = []
    with suppress(OSError, ValueError, KeyError):
        lines = Path(proc, "meminfo").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines if ":" in line)
        limits.append(1024 * int(fields["MemAvailable"].split()[0]))
    with suppress(OSError):
        for line in Path(proc, "self", "cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                root, names = Path(cgroups), ("memory.max", "memory.current", "")
            elif "memory" in controllers.split(","):
                root = Path(cgroups, "memory")
                names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
            else:
                continue
            inside = root / path.strip("/")
            # A limit of any group around this one applies too. Inside a container the path can be
            # that of the host, and only the root of the file system exists.
            limits += [_left(folder, *names) for folder in (inside, *inside.parents)
                       if folder.is_relative_to(root)]  # fmt: skip
    return min((limit for limit in limits if limit is not None), default=None)


def _left(folder, limit, usage, prefix):
    """Bytes up to the limit of one control group; None without a limit."""
    with suppress(OSError, ValueError):
        most = int((folder / limit).read_text())  # "max", no number, where there is none
        used = int((folder / usage).read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
        rows = dict(line.split() for line in lines)
        cache = sum(int(rows.get(f"{prefix}{key}", 0)) for key in ("active_file", "inactive_file"))
        return max(0, most - max(0, used - cache))
    return None
