"""Signatures: the native code against the definition, and the definition against the theory."""

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest, xxh3_128_digest

from curation import _native
from curation.dedup import DocumentDedup
from curation.document import make_batch
from curation.words import hash_bytes, hash_ngrams, words

ALL = 2**64 - 1


def batch_of(texts):
    return make_batch(
        {"text": text, "source": "s", "domain": "web", "uri": str(i)}
        for i, text in enumerate(texts)
    )


def bands_of(table):
    """Bands as uint64 [documents, bands], 0 where there are none."""
    names = [name for name in table.column_names if name.startswith("band_")]
    return np.column_stack([table[name].fill_null(0).to_numpy() for name in names])


def slow_bands(text, config):
    """The bands of a text by the definition; None if it has no n-gram."""
    hashes = np.array([hash_bytes(word.encode()) for word in words(text)], np.uint64)
    grams = [int(h) for h in hash_ngrams(hashes, config.ngram)]
    if not grams:
        return [None] * config.bands
    minima = [
        min((xxh3_64_intdigest(f"a{i}", config.seed) | 1) * x
            + xxh3_64_intdigest(f"b{i}", config.seed) & ALL for x in grams)
        for i in range(config.bands * config.rows)
    ]  # fmt: skip
    return [
        hash_bytes(b"".join(m.to_bytes(8, "little") for m in minima[at : at + config.rows]))
        for at in range(0, len(minima), config.rows)
    ]


# Letters of all lengths in UTF-8, marks, letters of unspaced scripts, white space, capitals that
# have none, one or two small letters, and what ends words.
mixed = st.lists(
    st.sampled_from(
        [
            "the",
            "QUICK",
            "internationalization",
            "x2",
            *"aBz_0\n\t-.éÉßΣςİ\u0301\u0308дЖاहि我々カ\u3099ไั한ཀ\u00a0\u2028\u3000\ufeff\u200d🙂𐐀𠀀\0\x1f\x85ǅⅧ٣ꟲ",
        ]
    )
    | st.just(" ")
    | st.characters(exclude_categories=["Cs"]),
    max_size=60,
).map("".join)


@settings(deadline=None)
@given(st.lists(mixed | st.none(), max_size=5), st.booleans())
def test_words_and_their_hashes_are_those_of_the_plain_definition(texts, large):
    column = pa.array(texts, pa.large_string() if large else pa.string())
    hashes, lengths, counts = _native.hash_words(column)
    found = [words(text or "") for text in texts]
    flat = [word for each in found for word in each]
    assert counts.tolist() == [len(each) for each in found]
    assert hashes.tolist() == [hash_bytes(word.encode()) for word in flat]
    assert lengths.tolist() == [len(word) for word in flat]


ends = st.sampled_from([" ", "", ".", "\n    ", "é", "我", "\u0301", " é "])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 140), ends), max_size=20), st.integers(0, 9))
def test_words_of_every_length_end_anywhere_in_a_block(parts, shift):
    text = " " * shift + "".join("aZ_9"[n % 4] * n + end for n, end in parts)
    found = words(text)
    hashes, lengths, _ = _native.hash_words(pa.array([text]))
    assert lengths.tolist() == [len(word) for word in found]
    assert hashes.tolist() == [hash_bytes(word.encode()) for word in found]


@pytest.mark.parametrize("size", [*range(1, 34), 1000])
def test_words_of_every_length_are_hashed_whole_wherever_they_lie_in_the_column(size):
    word = "".join(chr(ord("A") + i * 7 % 26) for i in range(size))
    for before in range(9):
        column = pa.array(["é" * before, "." * before + word, "more" * 30])
        hashes = _native.hash_words(column.slice(1, 1))[0]
        assert hashes.tolist() == [hash_bytes(word.lower().encode())]


@settings(deadline=None)
@given(
    st.lists(mixed, max_size=4),
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(1, 9),
    st.integers(0, 2**32),
)
def test_bands_are_those_of_the_plain_definition(texts, ngram, bands, rows, seed):
    config = DocumentDedup(ngram=ngram, bands=bands, rows=rows, seed=seed)
    table = config.sign(batch_of(texts))
    got = zip(*(table[f"band_{k:02d}"].to_pylist() for k in range(bands)), strict=True)
    assert list(map(list, got)) == [slow_bands(text, config) for text in texts]


def test_a_text_longer_than_a_tile_of_ngrams_has_the_minima_of_all_of_it():
    rng = random.Random(2)
    text = " ".join(str(rng.randrange(10**6)) for _ in range(5000))
    config = DocumentDedup(bands=2, rows=5)
    (row,) = bands_of(config.sign(batch_of([text]))).tolist()
    assert row == slow_bands(text, config)


@pytest.mark.parametrize("way", _native.minhash_ways())
@pytest.mark.parametrize("count", [1, 7, 8, 9, 112])
def test_every_processor_finds_the_same_minima(way, count):
    rng = np.random.default_rng(count)
    # Factors and offsets at both ends of their range too, where signs and carries go wrong.
    ends = np.array([1, 2**63 - 1, 2**63 + 1, 2**64 - 1], np.uint64)
    factors = np.append(ends, rng.integers(0, 2**64, 120, dtype=np.uint64) | np.uint64(1))[:count]
    offsets = np.append(ends[::-1], rng.integers(0, 2**64, 120, dtype=np.uint64))[:count]
    text = " ".join(str(n) for n in rng.integers(0, 10**6, 3000))
    hashes = hash_ngrams(_native.hash_words(pa.array([text]))[0], 3)
    minima = (hashes[:, None] * factors + offsets).min(axis=0)
    bands, found = _native.minhash(pa.array([text]), 3, 1, factors, offsets, way)
    assert bands[0].tolist() == [hash_bytes(int(m).to_bytes(8, "little")) for m in minima]
    assert found.tolist() == [1]


def test_native_signatures_refuse_what_makes_no_sense():
    texts, some = pa.array(["a b"]), np.ones(6, np.uint64)
    for ngram, rows, factors, offsets in (
        (0, 2, some, some),
        (1, 0, some, some),
        (1, 4, some, some),
        (1, 2, some, some[:4]),
        (1, 1, some[:0], some[:0]),
    ):
        with pytest.raises(ValueError, match="a multiple of rows"):
            _native.minhash(texts, ngram, rows, factors, offsets)
    with pytest.raises(ValueError, match="this processor has no abacus"):
        _native.minhash(texts, 1, 2, some, some, "abacus")
    with pytest.raises(ValueError, match="array of string"):
        _native.minhash(pa.array([1]), 1, 2, some, some)


@settings(deadline=None)
@given(st.lists(mixed, max_size=5))
def test_the_exact_hash_is_of_the_text_without_white_space(texts):
    config = DocumentDedup(near=False)
    expected = [xxh3_128_digest("".join(text.split()).encode()) for text in texts]
    assert config.sign(batch_of(texts))["exact"].to_pylist() == expected


def test_every_white_space_is_left_out():
    spaces = [chr(point) for point in range(0x110000) if chr(point).isspace()]
    texts = [f"a{space}é{space}" for space in spaces]
    assert len(set(DocumentDedup(near=False).sign(batch_of(["aé", *texts]))["exact"])) == 1


def ngrams(tokens):
    return {tuple(tokens[i : i + 5]) for i in range(len(tokens) - 4)}


def pairs(rng, count, shared):
    """Texts of 120 words, two by two with a share of their words in common, and their Jaccard."""
    texts, similar = [], []
    for _ in range(count):
        body = [f"w{rng.randrange(10**9)}" for _ in range(120)]
        other = body[: round(120 * shared)]
        other += [f"w{rng.randrange(10**9)}" for _ in range(120 - len(other))]
        a, b = ngrams(body), ngrams(other)
        texts += [" ".join(body), " ".join(other)]
        similar.append(len(a & b) / len(a | b))
    return texts, np.array(similar)


@pytest.mark.parametrize("similarity", [0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
def test_planted_pairs_are_caught_as_often_as_the_formula_says(similarity):
    # Two texts of n words whose first m are the same have (m - 4) of 2(n - 4) - (m - 4) in common.
    shared = 2 * similarity / (1 + similarity) * 116 / 120 + 4 / 120
    texts, similar = pairs(random.Random(7), 1600, shared)
    assert abs(similar.mean() - similarity) < 0.01
    bands = bands_of(DocumentDedup().sign(batch_of(texts)))
    caught = (bands[::2] == bands[1::2]).any(axis=1).mean()
    # The spread of 1,600 draws is 1.25 points at most.
    assert abs(caught - (1 - (1 - similar**8) ** 14).mean()) < 0.03


def test_one_band_agrees_as_often_as_the_sets_overlap():
    # 2,000 permutations one by one: the estimate of Jaccard is within its standard error.
    texts, similar = pairs(random.Random(1), 1, 0.75)
    bands = bands_of(DocumentDedup(bands=2000, rows=1).sign(batch_of(texts)))
    error = (similar[0] * (1 - similar[0]) / 2000) ** 0.5
    assert abs((bands[0] == bands[1]).mean() - similar[0]) < 4 * error


def test_signatures_do_not_depend_on_the_batch_they_were_made_in():
    rng = random.Random(11)
    texts = [" ".join(f"w{rng.random()}" for _ in range(n)) for n in (3, 40, 9000, 5, 700)]
    texts += ["", "漢字" * 50]
    batch = batch_of(texts)
    config = DocumentDedup(url=True, keep="longest")
    together = config.sign(batch)
    assert len(together) == len(batch)
    apart = [config.sign(batch.slice(i, 1)) for i in range(len(batch))]
    assert pa.concat_tables(apart).combine_chunks() == together.combine_chunks()
    other = DocumentDedup(seed=1).sign(batch)
    assert other["band_00"][2] != together["band_00"][2] and other["exact"] == together["exact"]


def test_short_documents_have_no_bands():
    table = DocumentDedup().sign(batch_of(["a b c d", "a b c d!", "", "a b c d e"]))
    for band in range(14):
        assert table[f"band_{band:02d}"].is_valid().to_pylist() == [False] * 3 + [True]
    assert DocumentDedup(near=False).sign(batch_of(["a"])).column_names == ["id", "exact"]


def test_an_id_that_is_none_is_named():
    batch = batch_of(["a", "b"])
    batch = batch.set_column(0, batch.schema.field(0), pa.array(["0" * 32, "zebra"]))
    with pytest.raises(ValueError, match="'zebra': expected 32 hex digits"):
        DocumentDedup().sign(batch)
