"""Where a training step's time goes, by part of the model, forward and backward.

torch's profiler names every operation; hooks name the part that a module is. An operation of the
backward pass carries the number of the operation it differentiates, and so finds its part. What
belongs to none (residual sums, gradients handed over, the embedding) is `rest`.
"""

import threading
from collections import defaultdict
from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile, record_function

import model.transformer as losses_of
from model.attention import Attention
from model.feedforward import FeedForward
from model.moe import Experts, Router
from model.norm import RMSNorm
from model.transformer import Transformer

PARTS = {
    Attention: "attention",
    Experts: "experts",
    Router: "router",
    FeedForward: "dense",
    RMSNorm: "norms",
}
NAMES = ["attention", "experts", "router", "dense", "head and loss", "norms", "optimizer", "rest"]
MARK = "part: "
BACKWARD = "autograd::engine::evaluate_function: "


def by_part(model: Transformer, step: Callable[[], object]) -> dict[str, tuple[float, float]]:
    """Seconds forward and backward of each part, in one step."""
    handles, open_parts = [], threading.local()
    open_parts.stack = []

    def enter(module, inputs):
        part = record_function(MARK + PARTS[type(module)])
        open_parts.stack.append(part)
        part.__enter__()

    def leave(module, inputs, output):
        open_parts.stack.pop().__exit__(None, None, None)

    for module in model.modules():
        if type(module) in PARTS:
            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(leave))
    whole = losses_of.linear_cross_entropy

    def marked(*arguments):
        with record_function(MARK + "head and loss"):
            return whole(*arguments)

    losses_of.linear_cross_entropy = marked
    try:
        with profile(activities=[ProfilerActivity.CPU]) as profiler, record_function("step"):
            step()
    finally:
        losses_of.linear_cross_entropy = whole
        for handle in handles:
            handle.remove()
    return _sum_up(profiler.events())


def _sum_up(events) -> dict[str, tuple[float, float]]:
    forward, backward = defaultdict(float), defaultdict(float)
    part_of: dict[int, str] = {}
    whole = 0.0
    for event in events:
        if event.name == "step":
            whole = event.cpu_time_total
        elif event.name == "optimizer":
            forward["optimizer"] += event.cpu_time_total
        elif event.name.startswith(MARK):
            name = event.name.removeprefix(MARK)
            forward[name] += event.cpu_time_total
            outer = _part(event.cpu_parent)
            if outer:
                forward[outer] -= event.cpu_time_total
        elif event.sequence_nr >= 0 and (name := _part(event)):
            part_of.setdefault(event.sequence_nr, name)
    for event in events:
        if event.name.startswith(BACKWARD) and event.sequence_nr in part_of:
            backward[part_of[event.sequence_nr]] += event.cpu_time_total
    known = sum(forward.values()) + sum(backward.values())
    forward["rest"] = whole - known
    return {name: (forward[name] / 1e6, backward[name] / 1e6) for name in NAMES}


def _part(event) -> str | None:
    """The innermost part around an event; None in the backward pass and outside of all."""
    while event is not None:
        if event.name.startswith(BACKWARD):
            return None
        if event.name.startswith(MARK):
            return event.name.removeprefix(MARK)
        event = event.cpu_parent
    return None
