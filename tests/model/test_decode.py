import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.decode import FEW, Decoder, _Matrix
from model.generate import make_caches

YARN = {"type": "yarn", "factor": 4, "mscale_all_dim": 1.0, "original_max_position_embeddings": 64}
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


def test_few_tokens_give_the_multi_token_modules_states(small, build, tokens):
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


@settings(deadline=None, max_examples=30)
@given(
    rows=st.integers(1, 4),
    outputs=st.integers(1, 9),
    inputs=st.integers(1, 9),
    threads=st.integers(1, 3),
    turned=st.booleans(),
)
def test_a_matrix_shared_by_threads_gives_the_product(rows, outputs, inputs, threads, turned):
    generator = torch.Generator().manual_seed(outputs)
    outputs, inputs = 16 * outputs, 128 * inputs
    weight = torch.randn(outputs, inputs, dtype=torch.float64, generator=generator)
    x = torch.randn(rows, inputs, dtype=torch.float64, generator=generator)
    y = torch.randn(rows, outputs, dtype=torch.float64, generator=generator)
    torch.set_num_threads(threads)
    matrix = _Matrix(weight).laid_out() if turned else _Matrix(weight)
    torch.testing.assert_close(matrix.times(x), x @ weight.t())
    expected = y + 0.5 * (x @ weight.t())
    matrix.add_to(y, x, 0.5)
    torch.testing.assert_close(y, expected)


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
