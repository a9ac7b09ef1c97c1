"""Parity training against a slow clear twin, and against `tokenizers`' ParityBpeTrainer.

Both choose the same: each merge is the most frequent pair of the language whose development text
takes the most tokens, a language that has been helped more than alpha * window / languages times
within the window waits, and the hybrid variant begins with merges of plain frequency. The twin,
which is told how to break ties, gives the merges of either. What differs:

* Of equally frequent pairs ours takes the one of the smallest symbols, as BpeTrainer does, also in
  the first merges of the hybrid; theirs the one that is spelled last (left token, then right).
* Where the window holds back every language that has pairs left (with alpha below 1, or where the
  others are exhausted), ours helps the worst one; theirs may never end (tokenizers 0.23.3).
* Ours ends at a number of tokens, theirs after a number of merges, and two merges can make one
  token. Ours takes words and counts, weights, forbidden tokens, and a vocabulary to start from.
"""

import json
from collections import Counter
from itertools import pairwise, product

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from tokenizers.trainers import ParityBpeTrainer

from tok import learn_merges, learn_merges_parity, weigh
from tok.assemble import spell
from tok.trainer import BYTES

Words = dict[bytes, int]
WORDS = st.dictionaries(
    st.one_of(st.text("ab", max_size=20), st.text("abcdez", max_size=9)).map(str.encode),
    st.integers(0, 30),
    max_size=12,
)


def table_of(words: Words) -> pa.Table:
    return pa.table(
        {
            "word": pa.array(list(words), pa.large_binary()),
            "count": pa.array(list(words.values()), pa.int64()),
        }
    )


def smallest_symbols(pair, tokens):
    """Our way among equals, as a key of which the least is taken."""
    return pair


def spelled_last(pair, tokens):
    """Theirs: the alphabet's characters rise with the single bytes' symbols, so that only merged
    tokens are told apart by more than their symbols."""
    return tuple([-ord(c) for c in spell(tokens[side])] + [0] for side in pair)


def slow_parity(
    train: list[Words], dev: list[Words], merges: int, *, tie=smallest_symbols, plain=0, window=0,
    alpha=2.0, units=None,
):  # fmt: skip
    """Everything counted afresh for each merge; returns merges (left, right, token, count)."""
    tokens, made = list(BYTES.tokens), []
    split = {
        word: [tokens.index(bytes([b])) for b in word] for words in (*train, *dev) for word in words
    }
    exhausted, helped = set(), []

    def best(words: list[Words]):
        pairs = Counter()
        for one in words:
            for word, n in one.items():
                for pair in pairwise(split[word]):
                    pairs[pair] += n
        pairs = {pair: n for pair, n in pairs.items() if n > 0}
        return min(pairs, key=lambda p: (-pairs[p], tie(p, tokens)), default=None), pairs

    while len(made) < merges:
        if len(made) < plain:
            pair, pairs = best(train)
            if pair is None:
                plain = len(made)
                continue
        else:
            sizes = [max(1, sum(len(split[w]) * n for w, n in words.items())) for words in dev]
            left = [i for i in range(len(train)) if i not in exhausted]
            if not left:
                break
            free = [
                i
                for i in left
                if not window or helped[-window:].count(i) <= alpha * window / len(train)
            ]
            rate = [(units or [1] * len(train))[i] / sizes[i] for i in range(len(train))]
            worst = min(free or left, key=lambda i: rate[i])
            pair, pairs = best([train[worst]])
            if pair is None:
                exhausted.add(worst)
                continue
            helped.append(worst)
        token = tokens[pair[0]] + tokens[pair[1]]
        if token not in tokens:
            tokens.append(token)
        made.append((*pair, tokens.index(token), pairs[pair]))
        for word, symbols in split.items():
            out, i = [], 0
            while i < len(symbols):
                same = tuple(symbols[i : i + 2]) == pair
                out.append(tokens.index(token) if same else symbols[i])
                i += 1 + same
            split[word] = out
    return tokens, made


def ours(train, dev, max_tokens, plain=0, **options):
    names = [f"{i:02}" for i in range(len(train))]
    start = BYTES
    if plain:
        together = pa.concat_tables([table_of(words) for words in train])
        groups = pa.array([""] * len(together))
        start = learn_merges(weigh(together.append_column("group", groups)), 256 + plain)
    units = options.pop("units", None)
    return learn_merges_parity(
        dict(zip(names, map(table_of, train), strict=True)),
        dict(zip(names, map(table_of, dev), strict=True)),
        max_tokens,
        start=start,
        units=dict(zip(names, units, strict=True)) if units else None,
        **options,
    )


def theirs(train, dev, merges, **options):
    """The merges of `tokenizers`, as it spells them; words are lines."""
    tokenizer = Tokenizer(models.BPE())
    lines = pre_tokenizers.Split(Regex("\n"), "removed")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([lines, bytes_])
    trainer = ParityBpeTrainer(
        num_merges=merges, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False, **options,
    )  # fmt: skip

    def texts(words):
        return iter(["\n".join([word.decode()] * n) for word, n in words.items()])

    trainer.train_from_iterator(tokenizer, [*map(texts, train)], dev_iterators=[*map(texts, dev)])
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


def as_spelled(tokens, merges):
    return [(spell(tokens[a]), spell(tokens[b])) for a, b, *_ in merges]


LANGUAGES = st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4)
WINDOWS = st.sampled_from([(0, 2.0), (4, 1.0), (5, 1.5), (8, 2.0), (3, 1.0)])


@settings(max_examples=150, deadline=None)
@given(LANGUAGES, st.integers(0, 6), WINDOWS, st.integers(1, 3))
def test_ours_is_the_slow_twin(languages, plain, windowed, unit):
    train, dev = map(list, zip(*languages, strict=True))
    window, alpha = windowed
    units = [float(unit + i) for i in range(len(train))]
    vocabulary = ours(train, dev, 280, plain, window=window, alpha=alpha, units=units)
    merges = [tuple(row) for row in vocabulary.merges.tolist()]
    # The first go of the hybrid ends at a number of tokens, and may have made more merges.
    first = learned_first(train, plain)
    tokens, expected = slow_parity(
        train, dev, len(merges), plain=first, window=window, alpha=alpha, units=units
    )
    assert merges == expected and list(vocabulary.tokens) == tokens
    if len(tokens) < 280:
        assert len(slow_parity(train, dev, len(merges) + 1, plain=first, window=window, alpha=alpha,
                               units=units)[1]) == len(merges)  # fmt: skip


def learned_first(train, plain):
    return len(ours(train, train, 256, plain).merges) if plain else 0


@settings(max_examples=100, deadline=None)
@given(LANGUAGES, st.integers(0, 6))
def test_theirs_is_the_slow_twin_that_breaks_ties_their_way(languages, plain):
    # A development text of nothing is no case to compare on.
    train, dev = map(list, zip(*[(w, {**d, b"ab": 1}) for w, d in languages], strict=True))
    expected = slow_parity(train, dev, 24, tie=spelled_last, plain=plain)
    assert theirs(train, dev, 24, global_merges=plain) == as_spelled(*expected)


@pytest.mark.parametrize("window", [3, 4, 6, 10])
@pytest.mark.parametrize("alpha", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("plain", [0, 8])
def test_windows_hold_languages_back_alike(window, alpha, plain):
    # So many words that no language is exhausted.
    words = [[a + b + c for a in few for b in few for c in few] for few in ("abcd", "cdef", "wxyz")]
    train = [
        {word.encode(): 1 + (7 * i * (n + 2)) % 19 for i, word in enumerate(language)}
        for n, language in enumerate(words)
    ]
    dev = [{word.encode(): n for word in language[::3]} for n, language in enumerate(words, 1)]
    windowed = {"window": window, "alpha": alpha}
    expected = slow_parity(train, dev, 40, tie=spelled_last, plain=plain, **windowed)
    got = theirs(
        train, dev, 40, global_merges=plain, variant="window", window_size=window, alpha=alpha
    )
    assert got == as_spelled(*expected)
    vocabulary = ours(train, dev, 256 + 40, plain, **windowed)
    merges = [tuple(row) for row in vocabulary.merges.tolist()]
    assert merges == slow_parity(train, dev, len(merges), plain=plain, **windowed)[1]


@pytest.mark.parametrize("options", [{}, {"window": 10}, {"plain": 20}, {"window": 6, "plain": 9}])
def test_without_ties_both_give_the_same_merges(options):
    train = [
        {
            (a + b + c).encode(): 1 + (i * i * 37 + 11 * i + n) % 1999
            for i, (a, b, c) in enumerate(product(letters, repeat=3))
        }
        for n, letters in enumerate(("abcd", "wxyz"))
    ]
    dev = [{b"aabbcc": 3, b"abcabc": 2}, {b"xxyyzz": 3, b"xyzxyz": 1}]
    window, plain = options.get("window", 0), options.get("plain", 0)
    both = [
        slow_parity(train, dev, 12, tie=tie, plain=plain, window=window)
        for tie in (smallest_symbols, spelled_last)
    ]
    assert both[0] == both[1], "the words have ties"
    vocabulary = ours(train, dev, 256 + 12, min(plain, 12), window=window)
    their = {"variant": "window", "window_size": window} if window else {}
    assert as_spelled(vocabulary.tokens, vocabulary.merges.tolist()) == theirs(
        train, dev, 12, global_merges=plain, **their
    )


def test_a_language_waits_when_more_than_its_share_of_the_window_was_for_it():
    # Each language has letters of its own; the first is always the worst off.
    train = [{bytes([a, b]): 9 for a in letters for b in letters} for letters in (b"abcd", b"wxyz")]
    dev = [{b"abcd" * 500: 1}, {b"wxyz": 1}]
    vocabulary = ours(train, dev, 268, window=4, alpha=1.0)
    helped = [vocabulary.tokens[merge[2]][:1] in b"abcd" for merge in vocabulary.merges.tolist()]
    # 1.0 * 4 / 2 = 2 of the last four are no more than its share: it gets a third one, then waits.
    assert helped[:8] == [True, True, True, False, False, True, True, True]


def test_parity_needs_counts_for_each_development_language():
    with pytest.raises(ValueError, match="development language 'b'"):
        learn_merges_parity({"a": table_of({b"x": 1})}, {"b": table_of({b"x": 1})}, 300)
