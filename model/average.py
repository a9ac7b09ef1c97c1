"""An exponential moving average of the weights, kept off the device.

The report (section 3.2.2) keeps one in the CPU's memory, updated after each step, to see early what
the weights would be worth after the learning rate has fallen. Here it is float32 on the CPU, of all
weights and of the routers' biases, and costs a copy of the weights and one pass over them an
update. The first updates count alike (a plain mean) until the decay would forget faster, so that
the start leaves no trace. It is a function of the weights alone: a rank, a restart or a skipped
step changes nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The average of a model's weights with a decay per update; `tensors` by the weights' names."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.tensors = {
            name: torch.zeros_like(tensor, dtype=torch.float32, device="cpu")
            for name, tensor in model.state_dict().items()
        }

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights as they are now."""
        self.updates += 1
        share = max(1 - self.decay, 1 / self.updates)
        for name, tensor in model.state_dict().items():
            self.tensors[name].lerp_(tensor.to("cpu", torch.float32), share)

    @contextmanager
    def within(self, model: nn.Module) -> Iterator[None]:
        """Give the model the average for a while, then its own weights back."""
        own: dict[str, Tensor] = {
            name: tensor.to("cpu", copy=True) for name, tensor in model.state_dict().items()
        }
        model.load_state_dict(self.tensors)
        try:
            yield
        finally:
            model.load_state_dict(own)
