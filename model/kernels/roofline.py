"""How fast each kernel could be at all: operations, bytes and instructions against a chip's rates.

`works` lists what one mixture-of-experts layer, the head and decoding ask of every kernel, for the
shapes of a model: operations of the tensor cores, bytes to and from memory if everything is read
and written once, and what it would take without the fusion. `floor` divides by the published rates
of a chip and says which side limits. A third side comes from the compiled kernel: instructions a
thread (`resources.tsv`) times threads, over the four that a multiprocessor issues a cycle; counted
only for kernels without loops, compiled for such shapes, and as if every branch were taken.

Nothing here is measured: a floor is what no run goes below. How far above it real kernels are,
DeepSeek's own trace tells (`planner_check`).

Legend: T tokens, d hidden size, f inner size of an expert, K experts a token, E experts, V
vocabulary.
"""

import re
from dataclasses import dataclass

from model.config import ModelConfig
from model.kernels.resources import Resources, read_table
from model.presets import PRESETS

FP8, BF16 = "fp8", "bf16"

# Over how many devices experts are spread: 64 in the report (section 3.2), small models on one.
RANKS = {"v3-671b": 64}

MODELS = {name: PRESETS[name] for name in ("v3-671b", "moe-1b")}


@dataclass(frozen=True)
class Chip:
    """Published rates: dense operations a second by type, bytes a second, and instructions of
    single lanes a second (a multiply-add counts as two operations in the sheets, as one here)."""

    name: str
    fp8: float
    bf16: float
    memory: float
    lanes: float


# NVIDIA's data sheets of H100 SXM and H200 SXM: 3,958 and 1,979 TFLOP/s "with sparsity", of which
# dense is half; 67 TFLOP/s in float32; 3.35 and 4.8 TB/s. H800 SXM computes and remembers like
# H100; what was cut is NVLink and float64.
CHIPS = (
    Chip("H100", 1979e12, 989e12, 3.35e12, 33.5e12),
    Chip("H800", 1979e12, 989e12, 3.35e12, 33.5e12),
    Chip("H200", 1979e12, 989e12, 4.8e12, 33.5e12),
)


@dataclass(frozen=True)
class Work:
    """One kernel on one shape: `operations` of `precision`, `moved` bytes, `saved` bytes against
    separate kernels. `builds` begins its names in the table. A program does `unit` of `units`,
    where None is what the build's BLOCK says; `units` 0 where instructions can't be counted."""

    kernel: str
    shape: str
    operations: float
    moved: float
    saved: float
    builds: str
    precision: str = FP8
    units: float = 0
    unit: float | None = None
    part: str = "casts"


@dataclass(frozen=True)
class Floor:
    """The least time in seconds and the side that sets it: tensor cores, memory, instructions."""

    seconds: float
    side: str


def floor(work: Work, chip: Chip, resources: tuple[str, Resources] | None) -> Floor:
    """The least time of `work` on `chip`, with the instructions of a build if it is given."""
    sides = {
        "tensor cores": work.operations / (chip.fp8 if work.precision == FP8 else chip.bf16),
        "memory": work.moved / chip.memory,
    }
    if resources is not None and work.units:
        name, found = resources
        unit = work.unit or int(re.search(r"BLOCK=(\d+)", name)[1])
        threads = work.units / unit * found.warps * 32
        sides["instructions"] = threads * found.instructions / chip.lanes
    side = max(sides, key=sides.get)
    return Floor(sides[side], side)


def best_build(work: Work, table: dict[str, Resources]) -> tuple[str, Resources] | None:
    """Of a kernel's builds the one with the lowest floor, then the most warps; None if unknown."""
    found = [(n, r) for n, r in table.items() if n.split("/")[0] == work.builds]
    if not found:
        return None
    return min(found, key=lambda b: (floor(work, CHIPS[0], b).seconds, -b[1].blocks * b[1].warps))


def works(config: ModelConfig, tokens: int = 4096, ranks: int = 1) -> list[Work]:
    """What a layer with experts, the head and decoding ask for, with `tokens` on this device.

    Experts are spread over `ranks` devices; each then gets as many rows as it sends.
    """
    t, d, f, k = (
        tokens,
        config.hidden_size,
        config.moe_intermediate_size,
        config.num_experts_per_tok,
    )
    rows, local = t * k, max(1, config.n_routed_experts // ranks)
    return [
        *_norms(config, t),
        *_casts(config, t, rows, local),
        *_attention_products(config, t),
        *_expert_products(config, t, rows, local),
        *_swiglu(t, f * config.n_shared_experts, "shared"),
        *_swiglu(rows, f, "experts"),
        *_permutations(t, rows, d, k),
        *_head_and_decoding(config, t),
    ]


def _scales(numbers: float) -> float:
    return numbers / 128 * 4


def _norms(c: ModelConfig, t: int) -> list[Work]:
    made = []
    for width in (c.hidden_size, c.q_lora_rank or 0, c.kv_lora_rank):
        n = t * width
        if n:
            tiles = 1 << (-(-width // 128) - 1).bit_length()
            known = {64: "7168", 16: "1536", 4: "512"}.get(tiles)
            per_program = max(1, 32 // tiles)
            name = f"rms_norm_quantize_{known}" if known else "-"
            moved = 3 * n + _scales(n) + 4 * width + 4 * t
            shape = f"[{t}, {width}]"
            made.append(
                Work("RMSNorm + quantise", shape, 0, moved, 4 * n, name, units=t, unit=per_program)
            )
    return made


def _casts(c: ModelConfig, t: int, rows: int, local: int) -> list[Work]:
    """What is rounded apart from norms, SwiGLU and dispatch, forward and backward."""
    d, q_rank, kv_rank = c.hidden_size, c.q_lora_rank or 0, c.kv_lora_rank
    values = c.num_attention_heads * c.v_head_dim
    queries = c.num_attention_heads * (c.qk_nope_head_dim + c.qk_rope_head_dim)
    keys = c.num_attention_heads * (c.qk_nope_head_dim + c.v_head_dim)
    latents = q_rank + kv_rank + c.qk_rope_head_dim
    block = 128 * 128
    made = []

    def add(kernel, m, k, moved, saved, builds, unit=block):
        n = m * k
        units = n / 128 if unit is None else n
        scales = _scales(n) * (1 if unit is None else 2)
        shape = f"[{m}, {k}]"
        made.append(
            Work(kernel, shape, 0, moved * n + scales, saved * n, builds, units=units, unit=unit)
        )

    add("quantise rows, input of o", t, values, 3, 0, "quantize_tiles", None)
    gradients = {"o": d, "q": queries, "kv_b": keys, "latents": latents, "shared down": d}
    for name, width in gradients.items():
        add(f"quantise both, gradient of {name}", t, width, 4, 2, "quantize_both")
    kept = {"attention": d, "q latent": q_rank, "kv latent": kv_rank, "o": values, "shared": d}
    for name, width in kept.items():
        if width:
            add(f"rows to columns, input of {name}", t, width, 2, 4, "requantize_columns")
    for name in ("input", "gradient"):
        add(f"rows to columns, experts' {name}", rows, d, 2, 4, "requantize_columns")
    n = local * 3 * d * c.moe_intermediate_size
    shape = f"[{local}, 3 x {c.moe_intermediate_size}, {d}]"
    made.append(
        Work("quantise weights", shape, 0, 6 * n, n, "quantize_blocks_both", units=n, unit=block,
             part="weights")
    )  # fmt: skip
    return made


def _product(kind: str, m: float, n: float, k: float, shape: str) -> list[Work]:
    """Forward, input gradient and weight gradient of x [m, k] W [n, k]^T, bfloat16 out."""
    ops = 2 * m * n * k
    directions = (("forward", m * k, m * n), ("input gradient", m * n, m * k))
    made = [
        Work(f"{kind} {name}", shape, ops, a + n * k + 2 * out + _scales(a), 0, "product-blocks",
             part="products")
        for name, a, out in directions
    ]  # fmt: skip
    moved = m * k + m * n + _scales(m * (k + n)) + 4 * n * k
    weight = Work(f"{kind} weight gradient", shape, ops, moved, 0, "product-tiles", part="products")
    return [*made, weight]


def _attention_products(c: ModelConfig, t: int) -> list[Work]:
    heads, nope, rope, v = (
        c.num_attention_heads,
        c.qk_nope_head_dim,
        c.qk_rope_head_dim,
        c.v_head_dim,
    )
    q = heads * (nope + rope)
    pairs = [("kv_a", c.kv_lora_rank + rope, c.hidden_size)]
    pairs += [("kv_b", heads * (nope + v), c.kv_lora_rank), ("o", c.hidden_size, heads * v)]
    if c.q_lora_rank:
        pairs += [("q_a", c.q_lora_rank, c.hidden_size), ("q_b", q, c.q_lora_rank)]
    else:
        pairs.append(("q", q, c.hidden_size))
    inner = c.moe_intermediate_size * c.n_shared_experts
    pairs += [("shared up", 2 * inner, c.hidden_size), ("shared down", c.hidden_size, inner)]
    return [w for name, n, k in pairs for w in _product(name, t, n, k, f"[{t}, {k}] x [{n}, {k}]")]


def _expert_products(c: ModelConfig, t: int, rows: int, local: int) -> list[Work]:
    d, f = c.hidden_size, c.moe_intermediate_size
    made = []
    for name, n, k in (("experts up", 2 * f, d), ("experts down", d, f)):
        ops, weights = 2 * rows * n * k, local * n * k
        shape = f"[{rows}, {k}] x [{local}, {n}, {k}]"
        sides = (("forward", rows * k, rows * n), ("input gradient", rows * n, rows * k))
        made += [
            Work(f"{name} {what}", shape, ops, a + weights + 2 * out + _scales(a), 0,
                 "grouped-rows", part="products")
            for what, a, out in sides
        ]  # fmt: skip
        moved = rows * (n + k) + _scales(rows * (n + k)) + 4 * weights
        made.append(
            Work(f"{name} weight gradient", shape, ops, moved, 0, "grouped-gradient",
                 part="products")
        )  # fmt: skip
    return made


def _swiglu(m: int, f: int, name: str) -> list[Work]:
    n, shape = m * f, f"[{m}, 2 x {f}]"
    return [
        # Without the fusion: h in bfloat16, written and read.
        Work(f"SwiGLU + quantise, {name}", shape, 0, 3 * n + _scales(3 * n), 4 * n,
             "swiglu_quantize_kept", units=n / 128),
        # Without: the gradients of gate and up and h in bfloat16, written once, read once.
        Work(f"SwiGLU backward + quantise, {name}", shape, 0, 9 * n + _scales(7 * n), 12 * n,
             "swiglu_quantize_backward", units=3 * n, unit=128 * 128),
    ]  # fmt: skip


def _permutations(t: int, rows: int, d: int, k: int) -> list[Work]:
    there, back = f"[{t}, {d}] to {k} rows each", f"[{t}, {d}] from {k} rows each"
    out = t * d * (2 + k) + _scales(rows * d)
    # Without the fusion: K copies in bfloat16, gathered by K reads, written, and read again.
    apart = t * d * (6 * k - 2)
    sums = t * d * 2 * (k + 1)
    counted = t if k == 8 and 4096 < d <= 8192 else 0  # what the builds are compiled for
    return [
        Work("dispatch + quantise", there, 0, out, apart, "dispatch"),
        Work("dispatch of gradients + quantise", there, 0, out, apart, "dispatch_weighted"),
        # Without: the weighted copies, written and read.
        Work("combine", back, 0, sums, 4 * rows * d, "combine", units=counted, unit=1),
        Work("combine of gradients", back, 0, sums, 4 * rows * d, "combine", units=counted, unit=1),
        Work("gradient of gates", back, 0, sums, 0, "gate_gradient", units=counted, unit=1),
    ]  # fmt: skip


def _head_and_decoding(c: ModelConfig, t: int) -> list[Work]:
    d, v, heads = c.hidden_size, c.vocab_size, c.num_attention_heads
    latent, rope = c.kv_lora_rank, c.qk_rope_head_dim
    sequences, context = 128, 4096
    # Products of the head forward and both gradients in bfloat16; the weight read three times in
    # bfloat16 and its gradient written in float32, logits of a chunk written and read twice.
    head = 6 * t * v * d
    cache = sequences * context * (latent + rope) * 2
    scores, wide = sequences * heads * context, 2 * latent + rope
    return [
        Work("cross-entropy in chunks", f"[{t}, {d}] x [{v}, {d}]", head,
             10 * v * d + 6 * t * d + 8 * t * v, 0, "cross-entropy", BF16, part="head"),
        Work("MLA decoding", f"{sequences} sequences of {context}", 2 * scores * wide,
             cache + sequences * heads * wide * 2, 8 * scores, "decode", BF16, part="decoding"),
    ]  # fmt: skip


@dataclass(frozen=True)
class Check:
    """A figure of DeepSeek's trace against the floor predicted for it, in milliseconds."""

    what: str
    measured: float
    predicted: float


def planner_check(config: ModelConfig) -> tuple[float, list[Check]]:
    """The floors of DeepSeek's trace on H800: 4 layers with experts, one forward and one backward
    pass, 4,096 tokens. Gives the TFLOP of FP8 products (57.4 in the trace) and the times.

    The trace is the training one of github.com/deepseek-ai/profile-data.
    """
    chip, tokens, layers = CHIPS[1], 4096, 4
    table = read_table()[1]
    parts = {"products": 0.0, "casts": 0.0}
    operations = 0.0
    for work in works(config, tokens, ranks=64):
        if work.part in parts:
            parts[work.part] += layers * floor(work, chip, best_build(work, table)).seconds * 1e3
        if work.part == "products":
            operations += layers * work.operations
    heads = config.num_attention_heads
    size = config.qk_nope_head_dim + config.qk_rope_head_dim + config.v_head_dim
    # Causal: half of the square. Backward two and a half times forward, the scores computed anew.
    attention = layers * 3.5 * tokens * tokens * heads * size / chip.bf16 * 1e3
    total = sum(parts.values()) + attention
    return operations / 1e12, [
        Check("FP8 products", 74.5, parts["products"]),
        Check("attention", 22.0, attention),
        Check("casts and transposes", 15.9, parts["casts"]),
        Check("computing in all", 124.3, total),
        Check("the step", 129.0, total),
    ]
