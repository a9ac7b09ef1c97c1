"""The memory of a command and all that it starts, looked at while it runs (Linux).

And memory that a virtual machine has for certain (`lend_memory`).

Shared pages count once: each process has its proportional share of them (PSS). The peak of one
process is the kernel's own (VmHWM), which only misses what happens after the last look.
"""

import mmap
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Peak:
    """Bytes: of the largest process, and of all at one time; seconds that the command took."""

    largest: int = 0
    together: int = 0
    seconds: float = 0.0


def watch(process: subprocess.Popen, look: Callable[[float], None], pause: float = 0.5) -> Peak:
    """Wait for a command that was started in a session of its own; look(seconds since the last)."""
    peak, started = Peak(), time.monotonic()
    before = started
    while process.poll() is None:
        together = 0
        for pid in _session(process.pid):
            try:
                share = _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")
                most = _kilobytes(Path(f"/proc/{pid}/status"), "VmHWM:")
            except (OSError, ValueError):
                continue  # it has just ended
            together += share * 1024
            peak.largest = max(peak.largest, most * 1024)
        peak.together = max(peak.together, together)
        now = time.monotonic()
        look(now - before)
        before = now
        time.sleep(pause)
    peak.seconds = time.monotonic() - started
    return peak


def _session(leader: int) -> list[int]:
    """The processes of a session."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                # The name, between brackets, may hold anything; the session is the fourth after it.
                fields = (place / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == leader:
                found.append(int(place.name))
    return found


def _kilobytes(file: Path, name: str) -> int:
    for line in file.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise ValueError(f"{file}: no {name}")


def lend_memory(size: int) -> None:
    """Write to so much memory and give it back, so that a host has lent it to this machine.

    A virtual machine may get its memory from the host page by page, when it first writes to it, at
    ten times what a page costs afterwards, and give it back when it is free. Who gets such pages is
    chance: so before a clock starts, let the system write to as many as the work may need. The
    process's peak of memory (VmHWM) begins anew.
    """
    if not size or not hasattr(mmap, "MADV_HUGEPAGE"):  # not Linux
        return
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
        with suppress(OSError):  # a kernel without them
            block.madvise(mmap.MADV_HUGEPAGE)
        for at in range(0, size, mmap.PAGESIZE):
            block[at] = 1
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
