"""Measure tokenizers on text: how short it becomes, and for whom.

Text comes in batches (`text`, any number of columns of kinds such as `language` and `domain`, and
`key`, which says which documents are versions of each other) and is gone through once without a
tokenizer (`survey`) and once with each (`count_tokens`). What is kept are sums: per kind of text
six numbers, per kind and tokenizer one histogram of tokens, 8 bytes times the vocabulary (1 MB at
128K), of which pages never touched cost nothing. The number of documents does not matter.

The measures (`measure`), per kind of text and over all of it:

* bytes per token, characters per token, tokens per document.
* fertility: tokens per word. A word is a run of letters, marks and digits, apostrophes and joiners
  inside it; in scripts written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese, …)
  there are no such runs, and each letter counts as a word (`words_are_letters` says where).
* premium (Petrov et al. 2023): tokens over the reference language's tokens. Where the text is
  parallel (every language has the same keys) for the same lines, elsewhere per document.
* Rényi efficiency (Zouhar et al. 2023, "Tokenization and the Noiseless Channel"): the Rényi
  entropy of order 2.5 of the tokens' distribution over the logarithm of the vocabulary's size.
* the share of the vocabulary that occurs.

Over languages, each counting once: the mean of bytes per token (macro), the mean, 90th percentile
(linear between ranks) and maximum of the premium, and for parallel text the Gini coefficient of the
token counts (0: every language pays the same), as in parity-aware BPE (Foroutan et al. 2025).
"""

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from xxhash import xxh3_64_intdigest

ALPHA = 2.5
UNKNOWN = "unknown"
MOST_KINDS = 1000
# The columns of `Survey.sums`.
DOCUMENTS, BYTES, CHARACTERS, WORDS, LETTERS = range(5)
# Scripts written without spaces between words, by their names in RE2.
_UNSPACED = ("Thai", "Lao", "Khmer", "Myanmar", "Han", "Hiragana", "Katakana", "Bopomofo")
_REFERENCES = ("eng_Latn", "eng", "en", "eng-src", "English", "english")


@dataclass
class Survey:
    """What is known of the text before any tokenizer has seen it.

    kinds: column → value → row, in order of appearance; the column "" has the one value "all".
    sums: column → int64 [values, 5]: documents, bytes, characters, words, and those of the words
    that are single letters of an unspaced script. keys: uint64 [languages], the sum of the hashes
    of a language's keys modulo 2^64: equal sums, the same keys. keyed: whether no key was missing.
    """

    kinds: dict[str, dict[str, int]]
    sums: dict[str, np.ndarray]
    keys: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    keyed: bool = True


def survey(
    batches: Iterable[pa.RecordBatch], progress: Callable[[int], None] | None = None
) -> Survey:
    """Add the text up by kind.

    batches: `text` (large_string), `key` (string, null where there is none) and columns of kinds
    (string; null counts as "unknown"). progress(bytes) is told the bytes of each batch. Raises
    ValueError when a column has more than 1,000 values, or when there is no text at all.
    """
    found = Survey({"": {"all": 0}}, {"": np.zeros((1, 5), np.int64)})
    for batch in batches:
        rows = _text_sums(batch["text"])
        for name, codes in _codes(batch, found.kinds, grow=True).items():
            values = len(found.kinds[name])
            found.sums[name] = _grown(found.sums.get(name, np.zeros((0, 5), np.int64)), values)
            np.add.at(found.sums[name], codes, rows)
            if name == "language":
                found.keys = _grown(found.keys, values)
                keys = batch["key"].to_pylist()
                found.keyed &= None not in keys
                hashes = [xxh3_64_intdigest(key or "") for key in keys]
                np.add.at(found.keys, codes, np.array(hashes, np.uint64))
        if progress:
            progress(int(rows[:, BYTES].sum()))
    if not found.sums[""][0, BYTES]:
        raise ValueError("the text is empty: no document has a single byte")
    return found


def count_tokens(
    encoder,
    batches: Iterable[pa.RecordBatch],
    found: Survey,
    progress: Callable[[int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Encode the text; returns column → int64 [values, vocabulary], how often each token occurs.

    encoder: a `tok.Encoder`. The batches must be those of `survey`.
    """
    counts = {
        name: np.zeros((len(values), encoder.vocab_size), np.int64)
        for name, values in found.kinds.items()
    }
    for batch in batches:
        ids, offsets = encoder.encode_batch(batch["text"])
        for name, codes in _codes(batch, found.kinds, grow=False).items():
            if name == "":
                counts[name][0] += np.bincount(ids, minlength=encoder.vocab_size)
            else:
                row = np.repeat(codes * encoder.vocab_size, np.diff(offsets))
                np.add.at(counts[name].reshape(-1), row + ids, 1)
        if progress:
            progress(pc.sum(pc.binary_length(batch["text"])).as_py() or 0)
    return counts


def measure(
    found: Survey, counts: dict[str, np.ndarray], reference: str | None = None
) -> dict[str, dict]:
    """Compute all measures of one tokenizer.

    found, counts: see `survey` and `count_tokens`. reference: the language that premiums are
    relative to; None: English, if it is there. Returns JSON-able {"all": measures of all text and
    over languages, column: {value: measures}}; what is undefined (no word, no language) is None.
    Raises ValueError when the text lacks the reference that was asked for.
    """
    result: dict[str, dict] = {}
    for name, values in found.kinds.items():
        result[name or "all"] = {
            value: _kind(found.sums[name][row], counts[name][row]) for value, row in values.items()
        }
    result["all"] = result["all"]["all"] | _over_languages(found, result, reference)
    return result


def premium_by(found: Survey) -> str | None:
    """ "lines" where every language has the same keys, else "documents"; None: one language."""
    rows = [row for value, row in found.kinds.get("language", {}).items() if value != UNKNOWN]
    if len(rows) < 2:
        return None
    same_keys = len({int(found.keys[row]) for row in rows}) == 1
    return "lines" if found.keyed and same_keys else "documents"


def find_reference(languages: Sequence[str], wanted: str | None = None) -> str | None:
    """The language that premiums are relative to: the one that is wanted, else English, else None.

    English may be labelled eng_Latn, eng, en, or anything that begins with those (en-GB); of
    several, the first. Raises ValueError when the wanted one is not there.
    """
    if wanted is not None:
        if wanted in languages:
            return wanted
        if not languages:
            raise ValueError(
                f"no text in the reference language {wanted!r}: no document of the text has a "
                "`language`; leave --reference out, or add the column"
            )
        near = difflib.get_close_matches(wanted, languages, 5, 0.4) or sorted(languages)[:5]
        raise ValueError(
            f"no text in the reference language {wanted!r}: the {len(languages)} languages of the "
            f"text are called {', '.join(near)}, …; give one of them as --reference"
        )
    for name in _REFERENCES:
        if name in languages:
            return name
    return min((name for name in languages if re.match(r"(?i)eng?[-_]", name)), default=None)


def gini(values: Sequence[float]) -> float:
    """Gini coefficient of values ≥ 0, not all 0: mean absolute difference over twice the mean."""
    ordered = np.sort(np.asarray(values, float))
    n = len(ordered)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * ordered.sum()))


def renyi_efficiency(counts: np.ndarray, alpha: float = ALPHA) -> float | None:
    """Rényi entropy of order alpha of a histogram (int [vocabulary]) over its maximum, log size."""
    total = counts.sum()
    if total == 0 or len(counts) < 2:
        return None
    p = counts[counts > 0] / total
    return float(np.log(np.sum(p**alpha)) / (1 - alpha) / np.log(len(counts)))


def _kind(sums: np.ndarray, counts: np.ndarray) -> dict:
    """The measures that need no other kind of text. sums: [5]; counts: [vocabulary]."""
    documents, size, characters, words, letters = (int(x) for x in sums)
    tokens = int(counts.sum())
    used = int(np.count_nonzero(counts))
    return {
        "documents": documents,
        "bytes": size,
        "characters": characters,
        "words": words,
        "words_are_letters": 2 * letters > words,
        "tokens": tokens,
        "bytes_per_token": size / tokens if tokens else None,
        "characters_per_token": characters / tokens if tokens else None,
        "tokens_per_document": tokens / documents if documents else None,
        "fertility": tokens / words if words else None,
        "renyi_efficiency": renyi_efficiency(counts),
        "vocabulary_used": used,
        "vocabulary_share": used / len(counts),
    }


def _over_languages(found: Survey, result: dict, wanted: str | None) -> dict:
    """Write each language's premium into `result`, and return what is over all languages."""
    languages = {
        value: m
        for value, m in result.get("language", {}).items()
        if value != UNKNOWN and m["tokens"]
    }
    by = premium_by(found)
    reference = find_reference(list(languages), wanted) if languages or wanted else None
    unit = "tokens" if by == "lines" else "tokens_per_document"
    for value, m in result.get("language", {}).items():
        known = reference and by and value in languages
        m["premium"] = m[unit] / languages[reference][unit] if known else None
    macro = np.mean([m["bytes_per_token"] for m in languages.values()]) if languages else None
    over = {
        "languages": len(languages),
        "macro_bytes_per_token": None if macro is None else float(macro),
        "reference": reference,
        "reference_bytes_per_token": languages[reference]["bytes_per_token"] if reference else None,
        "premium_by": by if reference else None,
        "premium_mean": None,
        "premium_p90": None,
        "premium_worst": None,
        "premium_worst_language": None,
        "gini": gini([m["tokens"] for m in languages.values()]) if by == "lines" else None,
    }
    if reference and by:
        premiums = {value: m["premium"] for value, m in languages.items()}
        worst = max(premiums, key=premiums.__getitem__)
        over["premium_mean"] = float(np.mean(list(premiums.values())))
        over["premium_p90"] = float(np.percentile(list(premiums.values()), 90))
        over["premium_worst"], over["premium_worst_language"] = premiums[worst], worst
    return over


def _codes(batch: pa.RecordBatch, kinds: dict, grow: bool) -> dict[str, np.ndarray]:
    """Column → int64 [documents], the rows of its values in `kinds`; new values get rows."""
    result = {"": np.zeros(batch.num_rows, np.int64)}
    for name in batch.schema.names:
        # A caller may have dropped a kind that told nothing apart.
        if name in ("text", "key") or not (grow or name in kinds):
            continue
        encoded = pc.fill_null(batch[name], UNKNOWN).dictionary_encode()
        rows = kinds.setdefault(name, {}) if grow else kinds[name]
        values = [value or UNKNOWN for value in encoded.dictionary.to_pylist()]
        places = np.array([rows.setdefault(value, len(rows)) for value in values], np.int64)
        if len(rows) > MOST_KINDS:
            raise ValueError(
                f"the column {name!r} has over {MOST_KINDS:,} values, such as {values[0]!r}; "
                "expected one that tells a few kinds of text apart"
            )
        result[name] = places[encoded.indices.to_numpy(zero_copy_only=False)]
    return result


def _text_sums(texts: pa.Array) -> np.ndarray:
    """int64 [documents, 5]: the columns of `Survey.sums` for each document."""
    letters = pc.count_substring_regex(texts, _letter())
    columns = (
        pa.array(np.ones(len(texts), np.int64)),
        pc.binary_length(texts),
        pc.utf8_length(texts),
        pc.add(pc.count_substring_regex(texts, _word()), letters),
        letters,
    )
    return np.stack([column.to_numpy(zero_copy_only=False) for column in columns], 1)


def _letter() -> str:
    """RE2's pattern for a letter or digit of a script written without spaces."""
    others = r"\p{M}\p{P}\p{S}\p{Z}\p{C}"
    return "|".join([rf"[^\P{{{script}}}{others}]" for script in _UNSPACED] + ["[ー々〇ｰ]"])


def _word() -> str:
    """RE2's pattern for a word of the other scripts."""
    unspaced = "".join(rf"\p{{{script}}}" for script in _UNSPACED) + "ー々〇ｰ"
    inside = rf"[^\p{{P}}\p{{S}}\p{{Z}}\p{{C}}{unspaced}]"
    return rf"{inside}+(?:['’\x{{ad}}\x{{200c}}\x{{200d}}]{inside}+)*"


def _grown(sums: np.ndarray, rows: int) -> np.ndarray:
    if len(sums) == rows:
        return sums
    return np.concatenate([sums, np.zeros((rows - len(sums), *sums.shape[1:]), sums.dtype)])
