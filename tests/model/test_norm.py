import pytest
import torch

from model.norm import RMSNorm


def test_the_written_backward_pass_is_the_derivative():
    torch.manual_seed(0)
    norm = RMSNorm(6, 1e-3).double()
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(3, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(norm, (x,))
    assert torch.autograd.gradcheck(
        lambda w: torch.func.functional_call(norm, {"weight": w}, (x.detach(),)), (norm.weight,)
    )


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1.0, 1e4])
def test_it_is_torchs_rms_norm_at_every_scale(scale):
    torch.manual_seed(0)
    norm = RMSNorm(32, 1e-6)
    torch.nn.init.uniform_(norm.weight, 0.5, 2)
    x = torch.randn(5, 32) * scale
    expected = torch.nn.functional.rms_norm(x, (32,), norm.weight, 1e-6)
    torch.testing.assert_close(norm(x), expected)


def test_zeros_stay_zero():
    assert not RMSNorm(8, 1e-6)(torch.zeros(2, 8)).any()
