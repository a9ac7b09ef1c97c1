"""DeepSeekMoE with auxiliary-loss-free balancing, section 2.1.2 of the DeepSeek-V3 report.

Every token goes through the shared experts and K of the E routed ones. Its affinity to an expert is
a sigmoid (equation 15); the K largest affinities plus bias are chosen (equation 16), from at most
`topk_group` groups of experts (a group stands for a node); the gate values are the chosen
affinities without the bias, divided by their sum (equation 13) and scaled. The bias of an expert
falls after a step in which it had more than its share of the batch and rises otherwise:
`move_biases`, called once a step by the trainer. A small loss guards against one sequence leaning
on few experts (equations 17 to 20). No token is ever dropped.

The rows of an expert are brought together by sorting, go through its network
(`model/feedforward.py`), and are put back: every token adds up its K rows, in the same order
whatever the number of threads, and so do the gradients on their way back.

Legend: T tokens of the micro-batch, d hidden size, E routed experts, K chosen per token, m the
inner size of an expert.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import ModelConfig
from model.feedforward import FeedForward, gated_networks, swiglu
from model.linear import grouped_linear


@dataclass
class RouterStatistics:
    """What one MoE layer saw: `load` [E] float64, tokens sent to each expert, padding left out;
    `balance`, the sum over sequences of Σ f_i P_i (equation 17 without α), which is 1 for each
    sequence spread evenly.
    """

    load: Tensor
    balance: Tensor


class Router(nn.Module):
    """Choose experts and gate values. Always in the precision of its input, never in FP8."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.n_routed_experts, config.hidden_size))
        self.register_buffer("e_score_correction_bias", torch.zeros(config.n_routed_experts))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x: [T, d] to expert indices [T, K], gate values [T, K] and affinities [T, E]."""
        affinity = F.linear(x, self.weight).sigmoid()
        chosen = choose_experts(affinity.detach(), self.e_score_correction_bias, self.config)
        gates = affinity.gather(1, chosen)
        if self.config.norm_topk_prob:
            gates = gates / (gates.sum(1, keepdim=True) + 1e-20)
        return chosen, gates * self.config.routed_scaling_factor, affinity


def choose_experts(affinity: Tensor, bias: Tensor, config: ModelConfig) -> Tensor:
    """The K experts of each token, [T, K], by affinity [T, E] plus bias [E] within its best groups.

    A group's score is the sum of its K / topk_group largest entries (section 2.1.2, node-limited
    routing). Other groups are masked with -inf: with 0 a negative bias would let them back in.
    """
    scores = affinity + bias
    if config.topk_group < config.n_group:
        grouped = scores.unflatten(1, (config.n_group, -1))
        each = config.num_experts_per_tok // config.topk_group
        best = grouped.topk(each, -1).values.sum(-1).topk(config.topk_group, -1).indices
        allowed = torch.zeros(grouped.shape[:2], dtype=torch.bool, device=scores.device)
        allowed.scatter_(1, best, True)
        scores = grouped.masked_fill(~allowed[:, :, None], float("-inf")).flatten(1)
    return scores.topk(config.num_experts_per_tok, -1).indices


def sequence_balance(affinity: Tensor, active: int, real: Tensor) -> Tensor:
    """Σ over sequences of Σ_i f_i P_i (equations 17 to 20, without α), counting real tokens only.

    affinity: [b, L, E]; `active` is K; real: bool [b, L], False for padding. f counts each token's
    K largest affinities without the bias, P averages affinities normalised over all experts.
    """
    experts = affinity.shape[-1]
    weight = real.to(affinity.dtype)[:, :, None]
    tokens = weight.sum(1).clamp_min(1)
    with torch.no_grad():
        top = torch.zeros_like(affinity).scatter_(2, affinity.topk(active, -1).indices, 1.0)
        f = (top * weight).sum(1) * (experts / active) / tokens
    share = affinity / affinity.sum(-1, keepdim=True)
    return (f * (share * weight).sum(1) / tokens).sum()


class Experts(nn.Module):
    """The routed experts, stacked: gate and up [E, 2m, d], down [E, d, m]."""

    def __init__(self, config: ModelConfig, precision: str) -> None:
        super().__init__()
        experts, inner = config.n_routed_experts, config.moe_intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(experts, 2 * inner, config.hidden_size))
        self.down_proj = nn.Parameter(torch.empty(experts, config.hidden_size, inner))
        self.precision = precision

    def forward(self, x: Tensor, chosen: Tensor, gates: Tensor) -> Tensor:
        """Σ over its experts of gate times expert(x), for x [T, d], chosen and gates [T, K]."""
        active = chosen.shape[1]
        flat = chosen.flatten()
        order = flat.argsort(stable=True)
        position = torch.empty_like(order)
        position[order] = torch.arange(len(order), device=order.device)
        token, position = order // active, position.view(-1, active)
        counts = torch.bincount(flat, minlength=self.gate_up_proj.shape[0]).tolist()
        # Equation 12 weighs an expert's result; weighing what it is made of is narrower.
        gain = gates.flatten().index_select(0, order)[:, None]
        if self.precision == "fp32":
            weights = self.gate_up_proj, self.down_proj
            return gated_networks(x, *weights, counts, gain, token, position)
        rows = x.index_select(0, token)
        inner = swiglu(grouped_linear(rows, self.gate_up_proj, counts, self.precision), gain)
        out = grouped_linear(inner, self.down_proj, counts, self.precision)
        return out[position].sum(1)


class MixtureOfExperts(nn.Module):
    """Shared experts plus routed experts (equation 12, without its residual)."""

    def __init__(self, config: ModelConfig, precision: str) -> None:
        super().__init__()
        self.gate = Router(config)
        self.experts = Experts(config, precision)
        shared = config.moe_intermediate_size * config.n_shared_experts
        self.shared_experts = FeedForward(config.hidden_size, shared, precision)
        self.active = config.num_experts_per_tok

    def forward(self, x: Tensor, real: Tensor | None) -> tuple[Tensor, RouterStatistics | None]:
        """x: [b, L, d] to [b, L, d]; statistics too if `real` (bool [b, L]) says what to count."""
        tokens = x.flatten(0, 1)
        chosen, gates, affinity = self.gate(tokens)
        y = self.shared_experts(x) + self.experts(tokens, chosen, gates).view_as(x)
        if real is None:
            return y, None
        counted = chosen[real.flatten()].flatten()
        load = torch.bincount(counted, minlength=affinity.shape[1]).double()
        balance = sequence_balance(affinity.view(*x.shape[:2], -1), self.active, real)
        return y, RouterStatistics(load, balance)


@torch.no_grad()
def move_biases(routers: list[Router], loads: list[Tensor], speed: float) -> None:
    """Lower the bias of each expert above its layer's mean load by `speed`, raise those below.

    `loads` are the whole batch's, one tensor [E] a router, in the same order. An expert exactly at
    the mean stays where it is. Called after the optimizer's step.
    """
    for router, load in zip(routers, loads, strict=True):
        step = torch.sign(load.mean() - load) * speed
        router.e_score_correction_bias += step.to(router.e_score_correction_bias)
