"""The rate at which this machine multiplies float32 matrices: what training is measured by."""

import time

import torch

SIZE = 1024


def measure_peak(seconds: float = 0.3) -> float:
    """The best rate seen, in operations a second (a multiplication and an addition are two).

    Square products of 1,024 with torch's present number of threads, for about so many seconds.
    """
    a, b = torch.ones(2, SIZE, SIZE).unbind(0)
    out = torch.empty(SIZE, SIZE)
    torch.mm(a, b, out=out)
    best, until = float("inf"), time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        torch.mm(a, b, out=out)
        best = min(best, time.perf_counter() - began)
    return 2 * SIZE**3 / best
