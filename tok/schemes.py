"""Pretokenizer schemes: how text is cut into words before any merge is made.

Byte-level BPE never merges across the border of two pretokens ("words"), so the scheme decides what
a token can be. A scheme is a list of regular expressions, applied one after the other: each cuts
every piece that the one before it left, matched or not, into its matches and what lies between
them. Written like this, a scheme goes into `tokenizer.json` as it stands. That is the truth; what
cuts text here is `native/scanner.cpp`, some hundred times faster and by test equal to it.

`gpt2`, `cl100k` (as Llama 3 writes it), `o200k` and `deepseek-v3` are those models' own, to the
letter. `multilingual` is ours: the ideas of DeepSeek-V3's, and

* runs of scripts that write no spaces between words (Han, Kana, Thai, Lao, Khmer, Myanmar, Tibetan)
  are cut after at most 8 or 12 characters, so that no "word" is a whole sentence, seen once and
  never again;
* the joiners U+200C and U+200D stay inside a word, as Persian and the Indic scripts write them.

`multilingual-superword` lets such a word go on over up to seven more, across a space (with at most
two punctuation marks before it), an apostrophe or a hyphen, for tokens of several words. It is for
the second stage of training, which goes on from the merges of `multilingual` (SuperBPE, Liu et al.
2025, arXiv 2503.13423), and for encoding with what comes of it.

Who changes a scheme changes its struct in `native/scanner.cpp` with it; a property of code points
that is not yet known there is one more line in `native/make_classes.py`.
"""

from tokenizers import Regex, pre_tokenizers

from tok import _native

_ANY_CASE_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_CAPITALS = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_SMALL = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"

_PUNCTUATION_WORD = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
_SYMBOLS_AND_SPACE = r""" ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""

_HAN_KANA = r"\p{Han}\p{Hiragana}\p{Katakana}ー々"
_UNSPACED_ABUGIDAS = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
_BOUNDED_RUNS = rf"[{_HAN_KANA}]{{1,8}}|[{_UNSPACED_ABUGIDAS}]{{1,12}}"
_WORD = r"[\p{L}\p{M}][\p{L}\p{M}\x{200c}\x{200d}]*"
_BETWEEN_WORDS = r"(?:[\p{P}\p{S}]{0,2} |['’\-])"

# \r and \n stand as literal characters in DeepSeek's tokenizer.json, hence no raw string there.
SCHEMES: dict[str, tuple[str, ...]] = {
    "gpt2": (
        r"'s|'t|'re|'ve|'m|'ll|'d"
        r"| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    ),
    "cl100k": (
        _ANY_CASE_CONTRACTION
        + r"|[^\r\n\p{L}\p{N}]?\p{L}+"
        + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    "o200k": (
        rf"[^\r\n\p{{L}}\p{{N}}]?{_CAPITALS}*{_SMALL}+{_ANY_CASE_CONTRACTION}?"
        + rf"|[^\r\n\p{{L}}\p{{N}}]?{_CAPITALS}+{_SMALL}*{_ANY_CASE_CONTRACTION}?"
        + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    "deepseek-v3": (
        r"\p{N}{1,3}",
        "[一-龥぀-ゟ゠-ヿ]+",
        _PUNCTUATION_WORD
        + "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
        + "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
    ),
    "multilingual": (
        r"\p{N}{1,3}",
        _BOUNDED_RUNS,
        _PUNCTUATION_WORD + rf"|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?{_WORD}|" + _SYMBOLS_AND_SPACE,
    ),
    "multilingual-superword": (
        r"\p{N}{1,3}",
        _BOUNDED_RUNS,
        _PUNCTUATION_WORD
        + rf"|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?{_WORD}(?:{_BETWEEN_WORDS}{_WORD}){{0,7}}|"
        + _SYMBOLS_AND_SPACE,
    ),
}


def _known(scheme: str) -> str:
    if scheme not in SCHEMES:
        raise ValueError(f"unknown pretokenizer scheme {scheme!r}: expected one of {list(SCHEMES)}")
    return scheme


def split_words(text: str | bytes, scheme: str) -> list[bytes]:
    """Cut one text into words, by the native scanner.

    Raises ValueError when the scheme is unknown, or UnicodeEncodeError for lone surrogates.
    """
    text = text.encode() if isinstance(text, str) else text
    ends = _native.word_ends(_known(scheme), text).tolist()
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def word_splitter(scheme: str) -> pre_tokenizers.PreTokenizer:
    """Cut text into words by the scheme's regexes; what the native scanner is held to in tests.

    Raises ValueError when the scheme is unknown.
    """
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="isolated")
            for pattern in SCHEMES[_known(scheme)]
        ]
    )


def pretokenizer(scheme: str) -> pre_tokenizers.PreTokenizer:
    """Cut text into words, their bytes written in the byte-level alphabet; for the export."""
    return pre_tokenizers.Sequence(
        [
            word_splitter(scheme),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
