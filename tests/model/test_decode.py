import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model import _native
from model.decode import FEW, Decoder
from model.generate import make_caches

YARN = {"type": "yarn", "factor": 4, "mscale_all_dim": 1.0, "original_max_position_embeddings": 64}
SIZES = {
    "hidden": 8, "heads": 1, "plain": 4, "rotary": 2, "value": 4, "latent": 4, "eps": 1e-6,
    "scale": 1.0, "chosen": 1, "groups": 1, "chosen_groups": 1, "routed_scale": 1.0,
    "normalise_gates": True,
}  # fmt: skip
SHAPES = {
    "plain": {},
    "no query compression": {"q_lora_rank": None},
    "groups": {"n_group": 4, "topk_group": 2, "num_experts_per_tok": 4},
    "gates not normalised": {"norm_topk_prob": False, "n_shared_experts": 2},
    "all dense": {"first_k_dense_replace": 9},
    "YaRN": {"rope_scaling": YARN | {"mscale": 0.7}},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("threads", [1, 2])
def test_few_tokens_give_what_the_ordinary_pass_gives(small, build, tokens, shape, threads):
    torch.set_num_threads(threads)
    model = build(small(**shape)).double()
    ids = tokens(1, 30)[0].tolist()
    with torch.inference_mode():
        expected = model(torch.tensor([ids]))[0][0]
        decoder = Decoder(model, 30)
        assert decoder.few == FEW
        caches = make_caches(model, 3, 30)
        parts = [decoder.read(ids[:15], caches)]
        start = 15
        for count in (1, 1, FEW, 2, 1, 3):
            parts.append(decoder.read(ids[start : start + count], caches))
            start += count
        hidden = torch.cat(parts)
        # Rotary angles are float32 in both, rounded at different moments under YaRN.
        torch.testing.assert_close(hidden, expected[:start], rtol=1e-6, atol=1e-6)
        for rows in (hidden[-1:], hidden[-3:], hidden):
            torch.testing.assert_close(decoder.logits(rows), model.lm_head(rows))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_in_float32_too(small, build, tokens, shape):
    torch.set_num_threads(2)
    model = build(small(**shape))
    ids = tokens(1, 20)[0].tolist()
    with torch.inference_mode():
        expected = model(torch.tensor([ids]))[0][0]
        decoder, caches = Decoder(model, 20), make_caches(model, 3, 20)
        assert decoder.few == FEW
        parts = [decoder.read([token], caches) for token in ids[:12]]
        parts += [decoder.read(ids[12:16], caches), decoder.read(ids[16:], caches)]
    found = torch.cat(parts)
    assert (found - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize("threads", [1, 2])
def test_few_tokens_give_the_multi_token_modules_states(small, build, tokens, threads):
    torch.set_num_threads(threads)
    model = build(small(num_nextn_predict_layers=2)).double()
    ids = tokens(1, 12)[0].tolist()
    module = model.mtp_modules[1]
    hidden = torch.randn(9, 64, dtype=torch.float64)
    with torch.inference_mode():
        embedding = model.model["embed_tokens"](torch.tensor(ids[2:11]))
        expected = module.predict(hidden[None], embedding[None], model.rotary(0, 9))[0][0]
        decoder = Decoder(model, 12)
        (cache,) = make_caches(model, 1, 12)
        found = [decoder.read_ahead(2, hidden[:6], ids[2:8], cache)]
        found += [decoder.read_ahead(2, hidden[6:8], ids[8:10], cache)]
        found += [decoder.read_ahead(2, hidden[8:], ids[10:11], cache)]
    torch.testing.assert_close(torch.cat(found), expected)


def test_quantized_drafts_are_nearly_the_modules_states(small, build, tokens):
    model = build(small(num_nextn_predict_layers=1))
    ids = tokens(1, 12)[0].tolist()
    hidden = torch.randn(12, 64)
    states = []
    with torch.inference_mode():
        for rounded in (False, True):
            decoder = Decoder(model, 12, rounded)
            (cache,) = make_caches(model, 1, 12)
            parts = [decoder.read_ahead(1, hidden[i : i + 3], ids[i : i + 3], cache)
                     for i in range(0, 12, 3)]  # fmt: skip
            states.append(torch.cat(parts))
    off = (states[1] - states[0]).norm() / states[0].norm()
    assert 1e-4 < off < 0.05


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, FEW),
    outputs=st.integers(1, 70),
    inputs=st.integers(1, 140),
    threads=st.integers(1, 3),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_a_product_shared_by_threads_is_the_product(rows, outputs, inputs, threads, dtype):
    generator = torch.Generator().manual_seed(outputs)
    weight = torch.randn(outputs, inputs, dtype=dtype, generator=generator)
    x = torch.randn(rows, inputs, dtype=dtype, generator=generator)
    out = torch.full((rows, outputs), torch.nan, dtype=dtype)
    stack = (_native.Stack64 if dtype == torch.float64 else _native.Stack32)(
        **SIZES | {"hidden": inputs}, threads=threads
    )
    stack.set_ends(embedding=weight.numpy(), norm=np.ones(inputs, out.numpy().dtype),
                   head=weight.numpy())  # fmt: skip
    stack.logits(x.numpy(), out.numpy())
    torch.testing.assert_close(out, x @ weight.t())
    assert stack.likeliest(x.numpy()) == stack.guess(x.numpy()) == out.argmax(1).tolist()
    stack.quantize_drafts()
    # Rounding moves a product by half a 127th of the largest weight for each input, at most.
    moved = weight.abs().amax(1) / 127 / 2 * x.abs().sum(1, keepdim=True) * 1.001
    for i, guess in enumerate(stack.guess(x.numpy())):
        assert out[i, guess] + moved[i, guess] >= (out[i] - moved[i]).max() - 1e-5


def test_of_equal_logits_the_first_one_is_taken():
    stack = _native.Stack32(**SIZES, threads=3)
    ones = np.ones((10, 8), np.float32)
    stack.set_ends(embedding=ones, norm=ones[0], head=ones)
    stack.quantize_drafts()
    assert stack.likeliest(ones[:2]) == stack.guess(ones[:2]) == [0, 0]


def test_arrays_of_other_shapes_are_refused():
    stack = _native.Stack64(**SIZES, threads=2)
    with pytest.raises(ValueError, match="don't belong together"):
        stack.logits(np.ones((1, 8)), np.ones((1, 3)))  # has no head
    head = np.ones((3, 8))
    stack.set_ends(embedding=head, norm=np.ones(8), head=head)
    for rows, out in (((1, 5), (1, 3)), ((FEW + 1, 8), (FEW + 1, 3)), ((1, 8), (1, 4))):
        with pytest.raises(ValueError, match="don't belong together"):
            stack.logits(np.ones(rows), np.ones(out))
    table, cache, out = np.ones((1, 2)), np.ones((9, 6)), np.ones((1, 8))
    stack.read([2], table, [], 0, out)
    for tokens, caches in (([2], [cache]), ([3], []), ([], []), ([0] * (FEW + 1), [])):
        with pytest.raises(ValueError, match="don't belong together"):
            stack.read(tokens, table, caches, 0, out)  # (it has no layers)
    with pytest.raises(ValueError, match="don't belong together"):
        stack.read_ahead(1, out, [0], table, cache, 0, out)
    with pytest.raises(TypeError):
        stack.logits(np.ones((1, 8)), np.ones((1, 3), np.float32))


def test_a_cache_that_is_full_says_so(small, build, tokens):
    model = build(small()).double()
    ids = tokens(1, 9)[0].tolist()
    with torch.inference_mode():
        decoder, caches = Decoder(model, 12), make_caches(model, 3, 8)
        decoder.read(ids[:8], caches)
        before = [cache.length for cache in caches]
        with pytest.raises(ValueError, match="holds 8 tokens, 9 are needed"):
            decoder.read(ids[8:], caches)
        assert [cache.length for cache in caches] == before == [8] * 3


def test_an_fp8_model_is_read_by_its_own_pass(small, build, tokens):
    model = build(small(), "fp8")
    ids = tokens(1, 8)[0].tolist()
    with torch.inference_mode():
        decoder = Decoder(model, 8)
        caches, again = make_caches(model, 3, 8), make_caches(model, 3, 8)
        decoder.read(ids[:7], caches)
        model(torch.tensor([ids[:7]]), caches=again)
        found = decoder.read(ids[7:], caches)
        assert torch.equal(found, model(torch.tensor([ids[7:]]), caches=again)[0][0])
