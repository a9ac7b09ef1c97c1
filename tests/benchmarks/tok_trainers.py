"""How each library trains: text to merges, one function a library.

A function takes a corpus and a job and returns the call to be timed, what spells its result's
merges, and how many bytes of text the process holds meanwhile. Each library runs at its fastest
setting that gives the merges asked for:

* ours: a `WordCounter` that is given the corpus from its file, 16 MB at a time, reading included,
  so that nothing of it is kept but the counts; `weigh`, `learn_merges`. Where a job says `repeats`,
  the corpus is read so many times.
* tokenizers: `train_from_iterator` over lists of 1,000 documents, all 256 bytes in the alphabet.
* gigabpe: reads files only, and splits them at line breaks first, as `tokenizers` does with files;
  its alphabet is the bytes it saw, so the vocabulary asked for is those plus the merges.
* gigatoken: one buffer and a separator (0xFF, no byte of UTF-8); GPT-2's split only.
* rustbpe, bpeasy: an iterator over documents and GPT-2's regex. bpeasy breaks ties in its own way.

`PARITY` is parity training, which of the others only `tokenizers` has.

Peers are imported where they are called: they may live in an environment of their own.
"""

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

from corpora import Corpus

PEERS = ("gigabpe", "rustbpe", "gigatoken", "bpeasy")
GPT2_REGEX = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Where a library can limit a token's length, the limit is ours.
MAX_TOKEN_BYTES = 128
SEPARATOR = b"\xff"
STREAM = 16 << 20  # bytes of text in memory at a time where a corpus is read as a stream

_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_OTHERS = [b for b in range(256) if b not in _PRINTABLE]
BYTE_OF_CHARACTER = {chr(b): b for b in _PRINTABLE} | {
    chr(0x100 + i): b for i, b in enumerate(_OTHERS)
}


def held(strings: Iterable[str]) -> int:
    """Bytes that Python holds for these strings."""
    return sum(sys.getsizeof(string) for string in strings)


def spelling(token: str) -> bytes:
    """The bytes of a token written in the byte-level alphabet."""
    return bytes(BYTE_OF_CHARACTER[character] for character in token)


# The call to be timed; its result to the bytes of each merge; bytes of text held meanwhile.
Training = tuple[Callable[[], Any], Callable[[Any], list[bytes]], int]


def train_ours(corpus: Corpus, job: dict) -> Training:
    from tok import WordCounter, learn_merges, weigh

    def run() -> Any:
        counter = WordCounter(job["scheme"], threads=job["threads"])
        for _ in range(job.get("repeats", 1)):
            for texts in corpus.stream(STREAM):
                counter.add(texts)
        counts = weigh(counter.table(ordered=False))
        return learn_merges(counts, 256 + job["merges"], threads=job["threads"])

    def spell(learned: Any) -> list[bytes]:
        return [learned.tokens[symbol] for symbol in learned.merges[:, 2].tolist()]

    return run, spell, 0


def train_tokenizers(corpus: Corpus, job: dict) -> Training:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    if job["scheme"] == "gpt2":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        from tok.schemes import pretokenizer

        tokenizer.pre_tokenizer = pretokenizer(job["scheme"])
    trainer = trainers.BpeTrainer(
        vocab_size=256 + job["merges"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=MAX_TOKEN_BYTES + 1,  # theirs is the first length that is too long
        show_progress=False,
    )
    texts = corpus.strings()
    batches = (texts[i : i + 1000] for i in range(0, len(texts), 1000))

    def spell(_: Any) -> list[bytes]:
        merges = json.loads(tokenizer.to_str())["model"]["merges"]
        return [spelling(left) + spelling(right) for left, right in merges]

    return lambda: tokenizer.train_from_iterator(batches, trainer), spell, held(texts)


def train_gigabpe(corpus: Corpus, job: dict) -> Training:
    import gigabpe

    files = [str(corpus.path)]
    vocab_size = job["merges"] + len(corpus.distinct_bytes())
    keywords = {"pretokenizer": "bytelevel", "threads": job["threads"]}

    def run() -> Any:
        limit = MAX_TOKEN_BYTES + 1
        return gigabpe.train_bpe(files, vocab_size, max_token_length=limit, **keywords)

    return run, lambda result: [spelling(a) + spelling(b) for a, b in result[1]], 0


def train_gigatoken(corpus: Corpus, job: dict) -> Training:
    import gigatoken

    data = corpus.separated(SEPARATOR)
    vocab_size = 256 + job["merges"]
    return (
        lambda: gigatoken.train_bpe(data, vocab_size, [], separator=SEPARATOR),
        lambda result: [left + right for left, right in result[1]],
        len(data),
    )


def train_rustbpe(corpus: Corpus, job: dict) -> Training:
    import rustbpe

    tokenizer = rustbpe.Tokenizer()
    texts = corpus.strings()
    vocab_size = 256 + job["merges"]

    def spell(_: Any) -> list[bytes]:
        return [bytes(token) for token, _ in tokenizer.get_mergeable_ranks()][256:]

    return (
        lambda: tokenizer.train_from_iterator(iter(texts), vocab_size, pattern=GPT2_REGEX),
        spell,
        held(texts),
    )


def train_bpeasy(corpus: Corpus, job: dict) -> Training:
    import bpeasy

    texts = corpus.strings()
    vocab_size = 256 + job["merges"]
    return (
        lambda: bpeasy.train_bpe(iter(texts), GPT2_REGEX, MAX_TOKEN_BYTES, vocab_size, 1000),
        lambda vocab: [token for token in vocab if len(token) > 1],
        held(texts),
    )


TRAINERS = {
    "ours": train_ours,
    "tokenizers": train_tokenizers,
    "gigabpe": train_gigabpe,
    "rustbpe": train_rustbpe,
    "gigatoken": train_gigatoken,
    "bpeasy": train_bpeasy,
}


def parity_ours(train: dict[str, list[str]], job: dict) -> Callable[[], list[tuple[bytes, bytes]]]:
    """Parity training from lines by language, which are the development text as well."""
    from tok import count_words, learn_merges_parity, weigh

    def run() -> list[tuple[bytes, bytes]]:
        counts = {
            name: weigh(count_words(lines, scheme=job["scheme"], threads=job["threads"]))
            for name, lines in train.items()
        }
        learned = learn_merges_parity(counts, counts, 256 + job["merges"])
        pairs = learned.merges[:, :2].tolist()
        return [(learned.tokens[left], learned.tokens[right]) for left, right in pairs]

    return run


def parity_tokenizers(
    train: dict[str, list[str]], job: dict
) -> Callable[[], list[tuple[bytes, bytes]]]:
    """The same by ParityBpeTrainer, which breaks ties in another way (tests/tok/test_parity.py)."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    from tok.schemes import pretokenizer

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pretokenizer(job["scheme"])
    trainer = trainers.ParityBpeTrainer(
        num_merges=job["merges"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )

    def run() -> list[tuple[bytes, bytes]]:
        texts = [iter(lines) for lines in train.values()]
        dev = [iter(lines) for lines in train.values()]
        trainer.train_from_iterator(tokenizer, texts, dev_iterators=dev)
        merges = json.loads(tokenizer.to_str())["model"]["merges"]
        return [(spelling(left), spelling(right)) for left, right in merges]

    return run


PARITY = {"ours": parity_ours, "tokenizers": parity_tokenizers}
