"""The rate at which a device multiplies float32 matrices: what training is measured by."""

import time

import torch

SIZE, GPU_SIZE = 1024, 8192
CPU = torch.device("cpu")


def measure_peak(seconds: float = 0.3, device: torch.device = CPU) -> float:
    """The best rate seen, in operations a second (a multiplication and an addition are two).

    Square products of 1,024 with torch's present number of threads, on a GPU of 8,192, for about so
    many seconds.
    """
    on_gpu = device.type == "cuda"
    wait = torch.cuda.synchronize if on_gpu else lambda: None
    size = GPU_SIZE if on_gpu else SIZE
    a, b = torch.ones(2, size, size, device=device).unbind(0)
    out = torch.empty(size, size, device=device)
    torch.mm(a, b, out=out)
    wait()
    best, until = float("inf"), time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        torch.mm(a, b, out=out)
        wait()
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best
