"""The number of processor cores that this process may use."""

import contextlib
import os
from pathlib import Path
from typing import Final

__all__ = ["usable_cores"]

_GROUPS: Final = Path("/sys/fs/cgroup")


def usable_cores(groups: Path = _GROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """The cores that the process may run on, or as many as the quota of its control group lasts for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = min(_quotas(groups, own), default=float(cores))
    return max(1, min(cores, int(quota)))


def _quotas(groups: Path, own: Path) -> list[float]:
    """The quotas of all control groups that the process is in, in cores."""
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = groups / ("cpu" if controllers else "")
        group = root / path.lstrip("/")
        # a container sees its own group as the root, whatever its path says
        for folder in {root, *(parent for parent in (group, *group.parents) if parent.is_relative_to(root))}:
            with contextlib.suppress(OSError, ValueError):
                quotas.append(_quota(folder))
    return quotas


def _quota(group: Path) -> float:
    """Raises OSError or ValueError if the group has none."""
    if (group / "cpu.max").exists():
        limit, period = (group / "cpu.max").read_text(encoding="ascii").split()
    else:
        limit = (group / "cpu.cfs_quota_us").read_text(encoding="ascii")
        period = (group / "cpu.cfs_period_us").read_text(encoding="ascii")
    quota = int(limit) / int(period)  # `max`: no number
    if quota <= 0:
        raise ValueError("no quota")
    return quota
