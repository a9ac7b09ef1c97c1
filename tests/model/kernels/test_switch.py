"""The switch follows the device, and on a CPU the interpreter."""

import subprocess
import sys

import torch

from model.kernels.switch import enabled


def test_on_a_cpu_kernels_run_only_interpreted(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert not enabled(torch.zeros(1))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert enabled(torch.zeros(1))
    assert enabled(torch.zeros(1), torch.bfloat16)
    assert not enabled(torch.zeros(1, device="meta"))


def test_a_model_on_a_cpu_needs_no_triton():
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import torch\n"
        "from model.cross_entropy import linear_cross_entropy\n"
        "import model.transformer\n"
        "hidden = torch.randn(3, 4, requires_grad=True)\n"
        "linear_cross_entropy(hidden, torch.randn(9, 4), torch.tensor([1, 2, 3]))[0].backward()\n"
        "assert hidden.grad is not None\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
