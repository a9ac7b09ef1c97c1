"""The forward pass of the next few tokens, when memory is all that it costs.

One new token multiplies every active weight with one vector: two operations for four bytes read, so
a pass cannot be faster than the memory. `Transformer.forward` is made for many tokens and spends
most of such a pass on starting operations. On a CPU the same equations are therefore written once
more, for a handful of rows, in `model/native/decode.hpp`: attention runs on the cached latents with
the absorbed projections (the DeepSeek-V2 report, section 2.1.2), and an expert that several rows
chose is read once. Its twin and oracle is the ordinary forward pass, which also reads the prompts.

The weights are used where they are. Only a draft, which costs time if it is wrong and nothing else,
is made by a copy of the head and of most matrices of its module in 8 bits a number.
"""

import numpy as np
import torch
from torch import Tensor

from model import _native
from model.attention import LatentCache, rotary_table, softmax_scale
from model.block import Block
from model.kernels.switch import enabled
from model.mtp import MultiTokenModule
from model.transformer import Transformer

# Up to so many rows at once; from about there on, matrix-matrix products are the better ones.
FEW = _native.MOST
_STACKS = {torch.float32: _native.Stack32, torch.float64: _native.Stack64}


class Decoder:
    """Reads the tokens of one sequence of up to `capacity` tokens: many by the model's own forward
    pass, a few by the native one. Only to be used under `torch.inference_mode`.

    The native pass is for a model on the CPU, in float32 or float64. One in FP8 is always read by
    its own pass, which rounds as it was trained to.
    """

    def __init__(self, model: Transformer, capacity: int, quantized_drafts: bool = False) -> None:
        self.model, self.config = model, model.config
        head = model.lm_head.weight
        self.table = rotary_table(model.config, 0, capacity, head.dtype)
        fit = head.device.type == "cpu" and head.dtype in _STACKS and model.precision == "fp32"
        # Where kernels run, attention's own pass calls the one for decoding.
        kernels = enabled(head, torch.bfloat16)
        self.few = FEW if fit and not kernels else 0
        if self.few:
            self.stack = _stack_of(model)
            if quantized_drafts:
                self.stack.quantize_drafts()

    def read(self, tokens: list[int], caches: list[LatentCache]) -> Tensor:
        """Hidden states [l, d] of the next tokens, after the final norm; `caches` remember them."""
        if len(tokens) > self.few:
            return self.model(torch.tensor([tokens]), caches=caches)[0][0]
        out = self._room(tokens)
        table, latents, known = self._remember(len(tokens), caches)
        self.stack.read(tokens, table, latents, known, out.numpy())
        return out

    def read_ahead(
        self, depth: int, hidden: Tensor, tokens: list[int], cache: LatentCache
    ) -> Tensor:
        """States [l, d] of multi-token module `depth` (from 1) for the next positions, from the
        depth before, hidden [l, d], and the tokens `depth` places later.
        """
        if len(tokens) > self.few:
            module = self.model.mtp_modules[depth - 1]
            embedding = self.model.model["embed_tokens"](torch.tensor(tokens))
            table = self.table[cache.length : cache.length + len(tokens)]
            return module.predict(hidden[None], embedding[None], table, cache=cache)[0][0]
        out = self._room(tokens)
        table, (latent,), known = self._remember(len(tokens), [cache])
        hidden = hidden.contiguous().numpy()
        self.stack.read_ahead(depth, hidden, tokens, table, latent, known, out.numpy())
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [l, vocabulary] of hidden states [l, d]."""
        if len(hidden) > self.few:
            return self.model.lm_head(hidden)
        out = hidden.new_empty(len(hidden), self.config.vocab_size)
        self.stack.logits(hidden.contiguous().numpy(), out.numpy())
        return out

    def likeliest(self, hidden: Tensor) -> list[int]:
        """The token with the largest logit of each row, hidden [l, d]."""
        if len(hidden) > self.few:
            return self.model.lm_head(hidden).argmax(-1).tolist()
        return self.stack.likeliest(hidden.contiguous().numpy())

    def guess(self, hidden: Tensor) -> int:
        """The likeliest token of one row [1, d], for a draft."""
        if not self.few:
            return self.likeliest(hidden)[0]
        return self.stack.guess(hidden.contiguous().numpy())[0]

    def _room(self, tokens: list[int]) -> Tensor:
        return self.model.lm_head.weight.new_empty(len(tokens), self.config.hidden_size)

    def _remember(
        self, count: int, caches: list[LatentCache]
    ) -> tuple[np.ndarray, list[np.ndarray], int]:
        """Make room for so many tokens; what turns them, where they go, and how many there are."""
        known, ends = caches[0].length, [cache.room_for(count) for cache in caches]
        table = torch.view_as_real(self.table[known : ends[0]]).flatten(1).numpy()
        latents = [cache.latent[0].numpy() for cache in caches]
        for cache, end in zip(caches, ends, strict=True):
            cache.length = end
        return table, latents, known


def _array(parameter: Tensor) -> np.ndarray:
    return parameter.detach().contiguous().numpy()


def _stack_of(model: Transformer) -> _native.Stack32 | _native.Stack64:
    """The model's layers and those of its multi-token modules, for the native pass."""
    config = model.config
    stack = _STACKS[model.lm_head.weight.dtype](
        hidden=config.hidden_size,
        heads=config.num_attention_heads,
        plain=config.qk_nope_head_dim,
        rotary=config.qk_rope_head_dim,
        value=config.v_head_dim,
        latent=config.kv_lora_rank,
        eps=config.rms_norm_eps,
        scale=softmax_scale(config),
        chosen=config.num_experts_per_tok,
        groups=config.n_group,
        chosen_groups=config.topk_group,
        routed_scale=config.routed_scaling_factor,
        normalise_gates=config.norm_topk_prob,
        threads=torch.get_num_threads(),
    )
    stack.set_ends(
        embedding=_array(model.model["embed_tokens"].weight),
        norm=_array(model.model["norm"].weight),
        head=_array(model.lm_head.weight),
    )
    for block in model.model["layers"]:
        _add_layer(stack, block)
        if isinstance(block, MultiTokenModule):
            stack.add_module(
                embedding_norm=_array(block.enorm.weight),
                hidden_norm=_array(block.hnorm.weight),
                projection=_array(block.eh_proj.weight),
                norm=_array(block.shared_head["norm"].weight),
            )
    return stack


def _add_layer(stack: _native.Stack32 | _native.Stack64, block: Block) -> None:
    attention, mlp = block.self_attn, block.mlp
    if attention.compressed_query:
        query = attention.q_a_proj
        then = attention.q_a_layernorm.weight, attention.q_b_proj.weight
        query_norm, query_up = map(_array, then)
    else:
        query, query_norm, query_up = attention.q_proj, None, None
    network = mlp.shared_experts if block.moe else mlp
    stack.add_layer(
        attention_norm=_array(block.input_layernorm.weight),
        query=_array(query.weight),
        query_norm=query_norm,
        query_up=query_up,
        latent=_array(attention.kv_a_proj_with_mqa.weight),
        latent_norm=_array(attention.kv_a_layernorm.weight),
        key_value=_array(attention.kv_b_proj.weight),
        out=_array(attention.o_proj.weight),
        mlp_norm=_array(block.post_attention_layernorm.weight),
        gate=_array(network.gate_proj.weight),
        up=_array(network.up_proj.weight),
        down=_array(network.down_proj.weight),
    )
    if block.moe:
        stack.add_experts(
            router=_array(mlp.gate.weight),
            bias=_array(mlp.gate.e_score_correction_bias),
            gate_up=_array(mlp.experts.gate_up_proj),
            down=_array(mlp.experts.down_proj),
        )
