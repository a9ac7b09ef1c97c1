"""Tests here run kernels in Triton's interpreter, in a process of their own.

Whether a kernel is compiled or interpreted is decided when it is defined, so one process can't do
both. These files are skipped in an ordinary run; `test_interpreted.py` in the folder above runs
each of them with TRITON_INTERPRET=1. By hand:
`TRITON_INTERPRET=1 pytest tests/model/kernels/interpreted/test_quantize.py`.
"""

import os
import sys
from pathlib import Path

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
collect_ignore_glob = [] if INTERPRETED else ["test_*.py"]

# In pytest's importlib mode a test finds no module beside it (`operands`).
sys.path.insert(0, str(Path(__file__).parent))
