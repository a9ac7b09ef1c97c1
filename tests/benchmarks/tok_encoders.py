"""How each library encodes: documents to ids, one function a library.

A function takes a job and returns what a corpus is turned into before the clock starts, the call
to be timed, what gives its result's ids (int32 or uint32 bytes, one for each document), and how
many bytes of text go into one call (None: all). Each library gets text in the form it takes best
and gives its own flattest result: ours an Arrow array, gigatoken a buffer and a separator,
snaptokens a list of strings into its flat result. tokenizers, tiktoken and kitoken get lists of
strings, 8 MB at a time so that their Python lists stay small; kitoken has no threads, so it is
called from as many Python threads as the run may use. tiktoken takes one regex, so only schemes
that are one.

Peers are imported where they are called: they may live in an environment of their own.
"""

import json
from array import array
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from inspect import signature
from itertools import pairwise
from pathlib import Path
from typing import Any

from corpora import Corpus
from tok_trainers import SEPARATOR, spelling

PEERS = ("gigatoken", "snaptokens", "kitoken", "tiktoken")
PIECE = 8 << 20  # bytes of text in one call of the libraries that return Python lists


class UnsupportedError(Exception):
    """The library cannot do this job; the message says what it lacks."""


# Corpus to input; the call to be timed; its result to ids by document; bytes a call.
Encoding = tuple[
    Callable[[Corpus], Any], Callable[[Any], Any], Callable[[Any], Iterable[bytes]], int | None
]


def flat_rows(ids: bytes, offsets: Iterable[int]) -> Iterator[bytes]:
    view = memoryview(ids)
    return (bytes(view[4 * a : 4 * b]) for a, b in pairwise(offsets))


def list_rows(rows: Iterable[Iterable[int]]) -> Iterator[bytes]:
    return (array("I", row).tobytes() for row in rows)


def published(job: dict) -> str:
    """tokenizer.json for libraries that know a scheme by how its publisher wrote it.

    Only GPT-2's differs from ours: its file names no regex, and leaves it to the byte level.
    """
    text = Path(job["tokenizer"], "tokenizer.json").read_text(encoding="utf-8")
    if job["scheme"] != "gpt2":
        return text
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    pre_tokenizer = byte_level | {"use_regex": True}
    return json.dumps(json.loads(text) | {"pre_tokenizer": pre_tokenizer}, ensure_ascii=False)


def encode_ours(job: dict) -> Encoding:
    from tok import Encoder

    encoder = Encoder.load(Path(job["tokenizer"]))
    threads = "threads" in signature(encoder.encode_batch).parameters
    keywords = {"threads": job["threads"]} if threads else {}
    return (
        Corpus.arrow,
        lambda texts: encoder.encode_batch(texts, **keywords),
        lambda result: flat_rows(result[0].tobytes(), result[1].tolist()),
        None,
    )


def encode_tokenizers(job: dict) -> Encoding:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{job['tokenizer']}/tokenizer.json")
    return (
        Corpus.strings,
        lambda texts: tokenizer.encode_batch_fast(texts, add_special_tokens=False),
        lambda result: list_rows(encoding.ids for encoding in result),
        PIECE,
    )


def encode_gigatoken(job: dict) -> Encoding:
    import awkward
    import gigatoken
    import numpy

    tokenizer = gigatoken.Tokenizer.from_json(published(job))

    def rows(result: Any) -> Iterator[bytes]:
        ends = numpy.cumsum(awkward.to_numpy(awkward.num(result))).tolist()
        return flat_rows(awkward.to_numpy(awkward.flatten(result)).tobytes(), [0, *ends])

    return (
        lambda corpus: gigatoken.BytesSource(corpus.separated(SEPARATOR), SEPARATOR),
        tokenizer.encode_batch,
        rows,
        None,
    )


def encode_snaptokens(job: dict) -> Encoding:
    from snaptokens import Tokenizer

    tokenizer = Tokenizer.from_json_str(published(job))
    return (
        Corpus.strings,
        tokenizer.encode_batch_flat,
        lambda result: flat_rows(result[0], array("Q", result[1])),
        None,
    )


def encode_kitoken(job: dict) -> Encoding:
    from kitoken import Kitoken

    tokenizer = Kitoken.from_tokenizers_file(f"{job['tokenizer']}/tokenizer.json")
    pool = ThreadPoolExecutor(job["threads"])

    def encode(texts: list[str]) -> list[list[int]]:
        size = len(texts) // (8 * job["threads"]) + 1
        parts = [texts[i : i + size] for i in range(0, len(texts), size)]
        return [row for rows in pool.map(tokenizer.encode_all, parts) for row in rows]

    return Corpus.strings, encode, list_rows, PIECE


def encode_tiktoken(job: dict) -> Encoding:
    import tiktoken

    if len(job["regexes"]) != 1:
        raise UnsupportedError(f"one regex only; {job['scheme']} is {len(job['regexes'])}")
    parsed = json.loads(Path(job["tokenizer"], "tokenizer.json").read_bytes())
    added = {token["content"] for token in parsed["added_tokens"]}
    ranks = {spelling(t): i for t, i in parsed["model"]["vocab"].items() if t not in added}
    encoding = tiktoken.Encoding(
        "bench", pat_str=job["regexes"][0], mergeable_ranks=ranks, special_tokens={}
    )
    return (
        Corpus.strings,
        lambda texts: encoding.encode_ordinary_batch(texts, num_threads=job["threads"]),
        list_rows,
        PIECE,
    )


ENCODERS = {
    "ours": encode_ours,
    "tokenizers": encode_tokenizers,
    "gigatoken": encode_gigatoken,
    "snaptokens": encode_snaptokens,
    "kitoken": encode_kitoken,
    "tiktoken": encode_tiktoken,
}
