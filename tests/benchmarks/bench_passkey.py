"""Passkey retrieval at four times the trained length, before and after the context is extended.

A row is noise in which a passkey stands once, `KEY d d d d` with four different digits, and is
asked for later, `ASK d d d d`.
A small model (attention over two layers, no experts) learns it in rows of 64 tokens, through the
training loop. Then it reads rows of 256, asked at the end, with the key at eight depths:

- as it is, with positions that it has never seen;
- with YaRN, but not trained on;
- with YaRN and trained on for a tenth of the steps at 256 tokens, which is what the stage `extend`
  does (section 4.3 of the DeepSeek-V3 report, figure 8).

Seen (one thread of two busy cores, 6 minutes): 100% at 64 tokens; at 256 0% as trained, at every
depth, 100% with YaRN alone and after training on, and 100% at 64 still.

A key is retrieved if all its digits are the likeliest ones. Nothing here is timed against anything:
the claims are accuracies. `python tests/benchmarks/bench_passkey.py [--quick]`.
"""

import argparse
import dataclasses
import os
import platform
import tempfile
import time
from pathlib import Path

import torch

from model.config import ModelConfig
from model.evaluate import EvaluationSet
from model.long_context import extend_context
from model.trainer import TrainConfig, train
from model.transformer import Transformer

KEY, ASK, DIGITS, NOISE, VOCABULARY = 1, 2, range(3, 13), range(13, 64), 64
SIZE = 4  # digits of a key
SHORT, LONG = 64, 256
DEPTHS = 8

MODEL = ModelConfig(
    vocab_size=VOCABULARY,
    hidden_size=64,
    intermediate_size=128,
    moe_intermediate_size=16,
    num_hidden_layers=2,
    first_k_dense_replace=2,
    num_nextn_predict_layers=0,
    num_attention_heads=4,
    kv_lora_rank=48,
    qk_nope_head_dim=16,
    qk_rope_head_dim=16,
    v_head_dim=16,
    n_routed_experts=2,
    num_experts_per_tok=1,
    rope_theta=10000.0,
    max_position_embeddings=SHORT,
    initializer_range=0.05,
)


def rows(first: int, size: int, length: int, depth: float | None = None) -> dict:
    """Sequences by their numbers. In training a key stands and is asked for anywhere; with a
    `depth` (0 the beginning, 1 the end) it stands there, and is asked for at the end.
    """
    ids = torch.empty(size, length + 1, dtype=torch.int64)
    labels = torch.full((size, length), -100)
    for row in range(size):
        generator = torch.Generator().manual_seed((first + row) * 1000 + length)

        def draw(low: int, high: int, count: int = 1, by=generator) -> torch.Tensor:
            return torch.randint(low, high, (count,), generator=by)

        ids[row] = draw(NOISE.start, NOISE.stop, length + 1)
        key = DIGITS.start + torch.randperm(len(DIGITS), generator=generator)[:SIZE]
        last = length - SIZE
        if depth is None:
            at = int(draw(0, last - SIZE - 1))
            asked = int(draw(at + SIZE + 1, last + 1))
        else:
            at, asked = int(depth * (last - SIZE - 2)), last
        ids[row, at] = KEY
        ids[row, at + 1 : at + 1 + SIZE] = key
        ids[row, asked] = ASK
        ids[row, asked + 1 : asked + 1 + SIZE] = key
        labels[row, asked : asked + SIZE] = key
    documents = torch.zeros(size, length, dtype=torch.int32)
    return {
        "input_ids": ids[:, :-1].contiguous(),
        "labels": labels,
        "document_ids": documents,
        "source_ids": documents,
        "sequence_index": torch.arange(first, first + size),
    }


class Rows:
    """So many rows of one length, as the trainer takes them."""

    def __init__(self, count: int, length: int, seed: int) -> None:
        self.count, self.of, self.seed = count, length, seed

    def __len__(self) -> int:
        return self.count

    def phase_end(self, position: int) -> int:
        return self.count

    def length(self, position: int) -> int:
        return self.of

    def batch(self, first: int, size: int) -> dict:
        size = min(size, self.count - first)
        found = rows(self.seed * 10**6 + first, size, self.of)
        return found | {"sequence_index": torch.arange(first, first + size)}


@torch.no_grad()
def accuracies(model: Transformer, length: int, count: int) -> list[float]:
    """Share of keys retrieved, by depth."""
    found = []
    for k in range(DEPTHS):
        batch = rows(99 * 10**6 + k * count, count, length, k / (DEPTHS - 1))
        labels = batch["labels"]
        right = model.logits(batch["input_ids"]).argmax(-1) == labels
        found.append(float((right | (labels < 0)).all(1).float().mean()))
    return found


def load(config: ModelConfig, weights: Path) -> Transformer:
    from safetensors.torch import load_file

    model = Transformer(config)
    model.load_state_dict(load_file(weights / "model.safetensors"))
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few steps, which learn little")
    quick = parser.parse_args().quick
    steps, count = (60, 8) if quick else (2000, 64)
    batch = 32
    torch.set_num_threads(1)
    print(f"{platform.machine()}, {os.cpu_count()} processors, 1 thread; Python "
          f"{platform.python_version()}, torch {torch.__version__}")  # fmt: skip
    settings = {"batch_size": batch, "micro_batch_size": batch, "log_every": 100}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        began = time.perf_counter()
        first = TrainConfig(**settings, learning_rate=3e-3, warmup_steps=50, decay=0.5)
        held_out: dict[str, EvaluationSet] = {}

        def say(line: dict) -> None:
            print(f"  step {line['step']:5d}  loss {line['loss']:.3f}", flush=True)

        done = train(MODEL, first, Rows(steps * batch, SHORT, 1), held_out, root / "short",
                     progress=say)  # fmt: skip
        print(f"trained {done['steps']} steps of {batch} x {SHORT} tokens, "
              f"loss {done['loss']:.3f}, {time.perf_counter() - began:.0f} s")  # fmt: skip
        longer = extend_context(MODEL, SHORT, LONG / SHORT)
        more = max(steps // 10, 1)
        small = settings | {"batch_size": batch // 4, "micro_batch_size": batch // 4}
        second = TrainConfig(**small, learning_rate=1e-3, decay=1.0, bias_update_speed=0.0)
        began = time.perf_counter()
        done = train(longer, second, Rows(more * batch // 4, LONG, 2), held_out, root / "long",
                     start=root / "short" / "final", progress=say)  # fmt: skip
        print(f"extended by {done['steps']} steps of {batch // 4} x {LONG} tokens, loss "
              f"{done['loss']:.3f}, {time.perf_counter() - began:.0f} s")  # fmt: skip
        plain = dataclasses.replace(MODEL, max_position_embeddings=LONG)
        before, after = root / "short" / "final", root / "long" / "final"
        tried = {
            f"{SHORT} tokens, as trained": (MODEL, before, SHORT),
            f"{LONG} tokens, as trained": (plain, before, LONG),
            f"{LONG} tokens, YaRN": (longer, before, LONG),
            f"{LONG} tokens, extended": (longer, after, LONG),
            f"{SHORT} tokens, extended": (longer, after, SHORT),
        }
        table = {
            name: accuracies(load(config, weights), length, count)
            for name, (config, weights, length) in tried.items()
        }
    print(f"\nkeys retrieved by depth, beginning to end, {count} each")
    for name, row in table.items():
        mean = sum(row) / len(row)
        print(f"{name:26}" + "".join(f"{x:6.0%}" for x in row) + f"   mean {mean:.1%}")
    means = {name: sum(row) / len(row) for name, row in table.items()}
    print()
    print(f"passkey_{LONG}_extended {means[f'{LONG} tokens, extended']:.3f} 0.95")
    gain = means[f"{LONG} tokens, extended"] - means[f"{LONG} tokens, as trained"]
    print(f"passkey_{LONG}_gain {gain:.3f} 0.5")
    print(f"passkey_{SHORT}_extended {means[f'{SHORT} tokens, extended']:.3f} 0.95")


if __name__ == "__main__":
    main()
