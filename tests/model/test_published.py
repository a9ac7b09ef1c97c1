"""The layout of a `v3-671b` export is that of the released checkpoint."""

import itertools

import pytest
import torch

from model.presets import PRESETS, preset
from model.published import checkpoint_layout, layout_bytes, published_parts, state_shapes


@pytest.fixture(scope="module")
def released():
    return checkpoint_layout(preset("v3-671b"), torch.bfloat16, fp8=True)


def test_the_census_of_the_released_checkpoint(released):
    assert len(released) == 91_991 == 62 * 14 + 3 * 6 + 59 * (256 * 6 + 6 + 2) + 3 + 6
    assert layout_bytes(released) == 688_574_839_360


def expected_layout():
    """Names, types and shapes written out from DeepSeek-V3's sizes."""
    high, number, single = torch.bfloat16, torch.float8_e4m3fn, torch.float32
    d = 7168

    def projection(name, n, k):
        yield f"{name}.weight", number, (n, k)
        yield f"{name}.weight_scale_inv", single, (-(-n // 128), -(-k // 128))

    def mlp(prefix, inner):
        for name, n, k in (("gate", inner, d), ("up", inner, d), ("down", d, inner)):
            yield from projection(f"{prefix}{name}_proj", n, k)

    for name, shape in (
        ("model.embed_tokens", (129280, d)),
        ("model.norm", (d,)),
        ("lm_head", (129280, d)),
    ):
        yield f"{name}.weight", high, shape
    for layer in range(62):
        block = f"model.layers.{layer}."
        attention = f"{block}self_attn."
        for name, size in (
            (f"{block}input_layernorm", d),
            (f"{block}post_attention_layernorm", d),
            (f"{attention}q_a_layernorm", 1536),
            (f"{attention}kv_a_layernorm", 512),
        ):
            yield f"{name}.weight", high, (size,)
        for name, n, k in (
            ("q_a_proj", 1536, d),
            ("q_b_proj", 128 * 192, 1536),
            ("kv_a_proj_with_mqa", 576, d),
            ("kv_b_proj", 128 * 256, 512),
            ("o_proj", d, 128 * 128),
        ):
            yield from projection(attention + name, n, k)
        if layer < 3:
            yield from mlp(f"{block}mlp.", 18432)
            continue
        yield f"{block}mlp.gate.weight", high, (256, d)
        yield f"{block}mlp.gate.e_score_correction_bias", single, (256,)
        yield from mlp(f"{block}mlp.shared_experts.", 2048)
        for e in range(256):
            yield from mlp(f"{block}mlp.experts.{e}.", 2048)
    for name, shape in (
        ("enorm", (d,)),
        ("hnorm", (d,)),
        ("eh_proj", (d, 2 * d)),
        ("shared_head.norm", (d,)),
        ("shared_head.head", (129280, d)),
        ("embed_tokens", (129280, d)),
    ):
        yield f"model.layers.61.{name}.weight", high, shape


def test_every_name_type_and_shape_of_the_released_checkpoint(released):
    assert released == {name: (dtype, shape) for name, dtype, shape in expected_layout()}


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_published_tensors_cover_the_model_exactly_once(name):
    config = preset(name)
    covered = dict.fromkeys(state_shapes(config), 0)
    for part in published_parts(config).values():
        if not part.copy:
            covered[part.source] += torch.Size(part.shape).numel()
    for source, shape in state_shapes(config).items():
        assert covered[source] == torch.Size(shape).numel()


def test_parts_are_views_of_the_model_on_the_meta_device_too():
    config = preset("v3-671b")
    parts = published_parts(config)
    shapes = state_shapes(config)
    for name, part in itertools.islice(parts.items(), 0, None, 997):
        found = part.of(torch.empty(shapes[part.source], device="meta"))
        assert tuple(found.shape) == part.shape, name
