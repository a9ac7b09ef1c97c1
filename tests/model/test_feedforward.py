import torch
from torch.nn import functional as F

from model.feedforward import FeedForward, swiglu


def test_the_written_backward_pass_is_the_derivative():
    torch.manual_seed(0)
    x = torch.randn(3, 10, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(swiglu, (x,))


def test_one_joined_product_is_the_two_of_the_definition():
    torch.manual_seed(0)
    network = FeedForward(16, 24, "fp32").double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    gate, up = (p.weight for p in (network.gate_proj, network.up_proj))
    expected = (F.silu(x @ gate.t()) * (x @ up.t())) @ network.down_proj.weight.t()
    torch.testing.assert_close(network(x), expected)
