"""Generation, three ways that must agree: from nothing, from cached latents, and by speculation.

Without a cache every new token runs the whole sequence again: slow and plainly right. With one,
each layer remembers 512 + 64 numbers a token, and a pass over a few new tokens costs little more
than reading the active weights (`model/decode.py`). With speculation (section
5.4.3 of the DeepSeek-V3 report; Leviathan et al. 2023) the multi-token modules draft the next
tokens after each pass, the main model checks all of them in its next pass, and those that it would
have chosen itself are kept, with one more token of its own: the tokens are the same, the passes
fewer. Where D modules' drafts are all accepted the last module goes on from its own state, in the
place of that which it was trained to go on from: one token more with each such pass, up to what a
pass of a few tokens takes, and fewer again when one is refused.

A multi-token module needs the token k places ahead, so its cache trails the main one by k - 1
positions: what it computed from drafted tokens is forgotten once the draft has been used.
"""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from model.attention import LatentCache
from model.decode import FEW, Decoder
from model.transformer import Transformer


@dataclass(frozen=True)
class Generation:
    """The new `tokens`, the number of `passes` of the main model, and how many drafted tokens were
    `proposed` and `accepted` (0 without speculation).
    """

    tokens: list[int]
    passes: int
    proposed: int = 0
    accepted: int = 0

    @property
    def acceptance(self) -> float:
        """The share of drafted tokens that the main model would have chosen itself."""
        return self.accepted / max(self.proposed, 1)


def make_caches(model: Transformer, layers: int, capacity: int) -> list[LatentCache]:
    """Empty caches of one sequence for so many layers and tokens."""
    config = model.config
    size = config.kv_lora_rank + config.qk_rope_head_dim
    like = model.lm_head.weight
    return [LatentCache(like.new_empty(1, capacity, size)) for _ in range(layers)]


@torch.inference_mode()
def generate(
    model: Transformer,
    prompt: list[int],
    new_tokens: int,
    *,
    temperature: float = 0.0,
    seed: int = 0,
    stop: Collection[int] = (),
    cache: bool = True,
    speculative: bool = False,
) -> Generation:
    """Continue `prompt` by up to `new_tokens` tokens, ending early after one of `stop`.

    Temperature 0 takes the likeliest token, above 0 samples with a generator of its own, seeded.
    Raises ValueError for an empty prompt, a sequence beyond max_position_embeddings, or speculation
    asked of a model without multi-token modules, at a temperature, or without a cache.
    """
    limit = model.config.max_position_embeddings
    if not prompt:
        raise ValueError("prompt is empty, expected at least one token (the begin token will do)")
    if len(prompt) + new_tokens > limit:
        raise ValueError(
            f"{len(prompt)} prompt tokens and {new_tokens} new ones exceed the model's {limit}"
        )
    if temperature < 0:
        raise ValueError(f"temperature is {temperature}, expected 0 or more")
    if new_tokens < 1:
        return Generation([], 0)
    if speculative:
        if not model.mtp_modules:
            raise ValueError("speculative generation needs num_nextn_predict_layers of 1 or more")
        if temperature > 0 or not cache:
            raise ValueError("speculative generation is greedy and cached: temperature 0, cache on")
        return _speculate(model, prompt, new_tokens, stop)
    sampler = torch.Generator().manual_seed(seed)
    tokens = list(prompt)
    capacity = len(prompt) + new_tokens
    if cache:
        decoder = Decoder(model, capacity)
        caches = make_caches(model, model.config.num_hidden_layers, capacity)
    passes = 0
    while len(tokens) < capacity:
        if cache:
            hidden = decoder.read(tokens[caches[0].length :], caches)[-1:]
            if temperature == 0:
                tokens += decoder.likeliest(hidden)
            else:
                tokens.append(_sample(decoder.logits(hidden)[0], temperature, sampler))
        else:
            logits = model.logits(torch.tensor([tokens]))[0, -1]
            if temperature == 0:
                tokens.append(int(logits.argmax()))
            else:
                tokens.append(_sample(logits, temperature, sampler))
        passes += 1
        if tokens[-1] in stop:
            break
    return Generation(tokens[len(prompt) :], passes)


def _sample(logits: Tensor, temperature: float, sampler: torch.Generator) -> int:
    probabilities = (logits.double() / temperature).softmax(-1)
    return int(torch.multinomial(probabilities, 1, generator=sampler))


def _speculate(
    model: Transformer, prompt: list[int], new_tokens: int, stop: Collection[int]
) -> Generation:
    modules = model.mtp_modules
    most = max(FEW - 1, len(modules))
    capacity = len(prompt) + new_tokens
    caches = make_caches(model, model.config.num_hidden_layers, capacity)
    decoder = Decoder(model, capacity, quantized_drafts=True)
    drafter = _Drafter(decoder, capacity)
    tokens, draft = list(prompt), []
    passes = proposed = accepted = 0
    wanted = len(modules)
    end = len(prompt) + new_tokens
    while True:
        known = caches[0].length
        hidden = decoder.read(tokens[known:] + draft, caches)
        passes += 1
        # The main model's own choice after the last token, and after each drafted one.
        chosen = decoder.likeliest(hidden[-len(draft) - 1 :])
        agreed = 0
        while agreed < len(draft) and draft[agreed] == chosen[agreed]:
            agreed += 1
        proposed += len(draft)
        accepted += agreed
        if draft:
            wanted = min(wanted + 1, most) if agreed == len(draft) else max(agreed, 1)
        for token in chosen[: agreed + 1]:
            tokens.append(token)
            if token in stop or len(tokens) == end:
                return Generation(tokens[len(prompt) :], passes, proposed, accepted)
        # All tokens but the last, which no pass has read yet, are in the cache.
        valid = len(tokens) - 1
        for cache in caches:
            cache.crop(valid)
        # No point in drafting beyond what the next pass may still add.
        depth = min(wanted, end - len(tokens) - 1)
        draft = drafter.draft(hidden[: valid - known], tokens, depth)


class _Drafter:
    """Runs the multi-token modules behind the main model, each with its own cache."""

    def __init__(self, decoder: Decoder, capacity: int) -> None:
        self.decoder = decoder
        model = decoder.model
        self.caches = make_caches(model, len(model.mtp_modules), capacity)
        # Representations of depth 0 (the main model's) to D - 1, by position. Room for all of them:
        # adding to a tensor copies it, and a large one by all threads, which then are in the way.
        like, size = model.lm_head.weight, model.config.hidden_size
        self.hidden = [like.new_empty(capacity, size) for _ in model.mtp_modules]
        self.known = 0  # positions of depth 0

    def draft(self, new_hidden: Tensor, tokens: list[int], depth: int) -> list[int]:
        """Propose `depth` tokens after `tokens`; `new_hidden` [l, d] are the main model's states
        of the positions since the last call, up to the one before the last token.
        """
        self.hidden[0][self.known : self.known + len(new_hidden)] = new_hidden
        self.known += len(new_hidden)
        last = len(tokens) - 1
        sequence = list(tokens)
        modules = len(self.caches)
        states = new_hidden
        for k in range(1, depth + 1):
            cache = self.caches[min(k, modules) - 1]
            start = cache.length
            if k <= modules:
                hidden, ahead = self.hidden[k - 1][start:last], sequence[start + k : last + k]
            else:
                hidden, ahead = states[-1:], sequence[-1:]
            states = self.decoder.read_ahead(min(k, modules), hidden, ahead, cache)
            sequence.append(self.decoder.guess(states[-1:]))
            if k < modules:
                self.hidden[k][start:last] = states
        # Position i of depth k read token i + k; only those of `tokens` are certain.
        for k, cache in enumerate(self.caches[:depth], 1):
            cache.crop(max(last + 1 - k, 0))
        return sequence[len(tokens) :]
