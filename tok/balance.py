"""Weights for the groups of word counts, from text that says what the tokenizer is for.

Given counts by group (say, by language and source) and development text by language, the weights
should make a vocabulary that is short on such text in every language. Two questions are apart:

* Of which groups is a language's share made? `mixtures` writes the token distribution of each
  development text as a mixture of the groups' distributions, by expectation maximisation. No names
  are compared: Persian finds `pes` and `prs`, and a language without a group its relatives. Tokens
  of a first vocabulary are compared and not words, which in Thai or Chinese are clauses seen once.
* How large is each language's share? For the mean over languages of bytes per token, b = B / T, a
  token less in a language is worth dB / dT = B / T², which per byte of its text is b². So shares
  are in proportion to b², b being measured with a vocabulary trained on the shares before.

A small group repeated too often teaches its own words by heart, so mixtures are held towards the
groups' sizes: a share m of a group with N tokens becomes m^power N^(1 - power).

Time: that of `rounds` + 1 trainings, and about a third of one more for the mixtures.
"""

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa

from tok.assemble import assemble, max_tokens
from tok.counts import count_words, group_bytes, temper, weigh
from tok.encoder import Encoder
from tok.texts import Texts, text_arrays, text_buffers
from tok.trainer import BYTES, Vocabulary, learn_merges, protect

# Bytes that the weighted counts stand for together: so many that rounding loses no word.
WEIGHTED_BYTES = 10_000_000_000
# Part of every mixture that is the whole corpus, so that no token has probability 0.
_BACKGROUND = 0.02
_NEAREST = 32  # groups that a mixture is made of at most
_ROWS = 1 << 20


def balance(
    counts: pa.Table,
    dev: Mapping[str, Texts],
    vocab_size: int,
    scheme: str,
    *,
    boost: Mapping[str, float] | None = None,
    shares: Mapping[str, float] | None = None,
    power: float = 0.7,
    rounds: int = 2,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """Weights by group for `tok.weigh`; groups that no development text is like get 0.

    counts: a table of `COUNTS_SCHEMA`, sorted, counted by `scheme`. dev: development text by
    language. vocab_size: of the vocabulary to be trained. boost: factors for the shares of
    development languages. shares: groups that get a set share of all weighted bytes instead, such
    as code, of which there is no development text. progress(round) is called before each training.

    Raises ValueError when there is no development text, for unknown names, and for shares that
    leave nothing for the others.
    """
    shares = dict(shares or {})
    sizes = group_bytes(counts)
    if not sum(sizes.values()):
        raise ValueError("the counts are empty: there is nothing to weigh")
    dev = {language: texts for language, texts in dev.items() if _bytes(texts)}
    if not dev:
        raise ValueError("the development text is empty: there is nothing to balance for")
    for kind, given, known in (("group", shares, sizes), ("language", boost or {}, dev)):
        for name in given:
            if name not in known:
                raise ValueError(f"no {kind} {name!r}: there are {sorted(known)[:8]} …")
    if not (all(share >= 0 for share in shares.values()) and sum(shares.values()) < 1):
        raise ValueError(f"shares of groups come to {sum(shares.values())}: expected 0 to below 1")
    start = protect(frequent_characters(dev))

    def trained(weights: dict[str, float]) -> Encoder:
        vocabulary = learn_merges(
            weigh(counts, _scaled(weights, sizes)), max_tokens(vocab_size), start=start,
            min_count=2, threads=threads,
        )  # fmt: skip
        return Encoder(assemble(vocabulary, scheme))

    if progress:
        progress(0)
    encoder = trained(temper(counts, 3))
    names = list(sizes)
    free = np.array([name not in shares for name in names])
    mixed, totals = mixtures(counts, dev, encoder, names, free)
    kept = np.where(mixed > 1e-3, mixed**power * totals ** (1 - power), 0)
    kept /= np.maximum(kept.sum(1, keepdims=True), 1e-30)
    first = bytes_per_token(encoder, dev)
    factors = {language: (boost or {}).get(language, 1.0) for language in dev}
    now, weights = first, {}
    for turn in range(1, rounds + 1):
        # In tokens of the first vocabulary, a byte of a language's text is 1 / first of them.
        worth = np.array([factors[x] * now[x] ** 2 / first[x] for x in dev])
        weight = worth @ kept / np.maximum(totals, 1)
        rest = float(weight @ np.array(list(sizes.values()), float))
        scale = rest / (1 - sum(shares.values()))
        weights = {name: float(w) for name, w in zip(names, weight, strict=True)}
        weights |= {name: share * scale / max(sizes[name], 1) for name, share in shares.items()}
        if turn < rounds:
            if progress:
                progress(turn)
            now = bytes_per_token(trained(weights), dev)
    return _scaled(weights, sizes)


def mixtures(
    counts: pa.Table, dev: Mapping[str, Texts], encoder: Encoder, names: list[str], free: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Each development text as a mixture of groups, by token, and the tokens of each group.

    encoder: whose scheme cut the counts. names: the groups; free: bool [groups], which of them may
    be used. Returns shares [languages, groups], each row with sum 1, and tokens [groups].
    """
    texts = np.array(
        [
            np.bincount(encoder.encode_batch(t)[0], minlength=encoder.vocab_size)
            for t in dev.values()
        ]
    )
    used = np.flatnonzero(texts.any(0))
    of_group, totals = _tokens_of_groups(counts, encoder, names, used)
    background = of_group.sum(0) / max(totals.sum(), 1) + 1e-9
    rates = (of_group / np.maximum(totals, 1)[:, None] * free[:, None]).astype(np.float32)
    found = np.zeros((len(dev), len(names)))
    for row, text in zip(found, texts[:, used], strict=True):
        here = np.flatnonzero(text)
        wanted = (text[here] / text.sum()).astype(np.float32)
        rest = (_BACKGROUND * background[here]).astype(np.float32)

        def maximise(rates: np.ndarray, share: np.ndarray, steps: int, wanted=wanted, rest=rest):
            for _ in range(steps):
                share = share * (rates @ (wanted / (share @ rates + rest)))
                share = share / max(float(share.sum()), 1e-30) * (1 - _BACKGROUND)
            return share

        all_rates = rates[:, here]
        share = maximise(all_rates, np.full(len(names), 1 / len(names), np.float32), 4)
        nearest = np.argsort(-share, kind="stable")[:_NEAREST]
        row[nearest] = maximise(all_rates[nearest], share[nearest], 60)
    return found / np.maximum(found.sum(1, keepdims=True), 1e-30), totals


def _tokens_of_groups(
    counts: pa.Table, encoder: Encoder, names: list[str], used: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How often each of the tokens `used` occurs in each group [groups, used], and all tokens."""
    place = np.full(encoder.vocab_size, -1)
    place[used] = np.arange(len(used))
    found = np.zeros(len(names) * len(used))
    totals = np.zeros(len(names))
    for batch in counts.to_batches(_ROWS):
        groups = batch["group"].dictionary_encode()
        at = np.array([names.index(group) for group in groups.dictionary.to_pylist()], np.int64)
        codes = at[groups.indices.to_numpy()]
        ids, offsets = encoder.encode_words(batch["word"])
        lengths = np.diff(offsets)
        times = np.repeat(batch["count"].to_numpy(), lengths)
        codes = np.repeat(codes, lengths)
        totals += np.bincount(codes, times, len(names))
        known = place[ids] >= 0
        cells = codes[known] * len(used) + place[ids[known]]
        found += np.bincount(cells, times[known], len(found))
    return found.reshape(len(names), len(used)), totals


def bytes_per_token(encoder: Encoder, texts: Mapping[str, Texts]) -> dict[str, float]:
    """Bytes a token of the texts of each language."""
    return {
        language: _bytes(some) / max(len(encoder.encode_batch(some)[0]), 1)
        for language, some in texts.items()
    }


def frequent_characters(dev: Mapping[str, Texts], least: int = 5) -> list[bytes]:
    """Characters that occur `least` times in the texts, in their order; tokens to protect."""
    found: Counter[str] = Counter()
    for texts in dev.values():
        for array in text_arrays(texts):
            for text in array.to_pylist():
                found.update(text if isinstance(text, str) else (text or b"").decode())
    return [c.encode() for c, n in sorted(found.items()) if n >= least and not c.isascii()]


def frequent_sequences(
    texts: Texts, most: int, scheme: str, start: Vocabulary = BYTES
) -> list[bytes]:
    """The first `most` tokens, in order, that training on nothing but these texts would make.

    For a language that the corpus writes in another way than the texts (Burmese in Zawgyi and in
    Unicode order). Where these tokens are protected, the texts have become training text.
    """
    counts = weigh(count_words(texts, scheme=scheme))
    learned = learn_merges(counts, len(start) + most, start=start, min_count=2)
    return list(learned.tokens[len(start) :])


def _scaled(weights: Mapping[str, float], sizes: Mapping[str, int]) -> dict[str, float]:
    total = sum(weights[group] * size for group, size in sizes.items())
    if not total > 0:
        raise ValueError(
            "all weights come to 0: no group that is free to be weighted is like the development "
            "text; give fewer shares, or other text"
        )
    return {group: weight * WEIGHTED_BYTES / total for group, weight in weights.items()}


def _bytes(texts: Texts) -> int:
    return sum(int(offsets[-1] - offsets[0]) for _, offsets in text_buffers(texts))
