"""Planning and loading: what `bench_packing_plan.py` and `bench_packing_loader.py` claim.

python tests/benchmarks/bench_packing.py                     # some ten minutes
python tests/benchmarks/bench_packing.py --peers trl/bin/python --large
python tests/benchmarks/bench_packing.py --quick
"""

import argparse
import os
import platform
import time

import bench_packing_loader
import bench_packing_plan
import numpy as np
import pyarrow as pa
import torch


def main() -> None:
    """Measure both and print the claims: name, value, target; larger is better."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="both under a minute")
    parser.add_argument("--large", action="store_true", help="also a hundred million documents")
    parser.add_argument("--peers", help="a Python that has trl")
    options = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}, torch {torch.__version__}, NumPy {np.__version__}, "
        f"pyarrow {pa.__version__}, load {os.getloadavg()[0]:.1f}"
    )
    started = time.perf_counter()
    made = bench_packing_plan.claims(options.quick, options.large, options.peers)
    made += bench_packing_loader.claims(options.quick)
    print(f"\ntook {time.perf_counter() - started:.0f} s")
    for name, value, target in made:
        print(name, f"{value:.4g}", target)


if __name__ == "__main__":
    main()
