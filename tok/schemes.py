"""Pretokenizer schemes: how text is cut into words before any merge is made.

Byte-level BPE never merges across the border of two pretokens ("words"), so the scheme decides what
a token can be. A scheme is a list of regular expressions, applied one after the other: each cuts
every piece that the one before it left, matched or not, into its matches and what lies between
them. Written like this, a scheme goes into `tokenizer.json` as it stands. That is the truth; what
cuts text here is `native/scanner.cpp`, some hundred times faster and by test equal to it.

`gpt2`, `cl100k` (as Llama 3 writes it), `o200k` and `deepseek-v3` are those models' own, to the
letter. `multilingual` is ours: the ideas of DeepSeek-V3's, and what paid when each was measured by
itself, trained alike (128K, on 262 languages and code):

* a line break takes up the indentation behind it, but for the one space that goes with the next
  word, and punctuation takes up both (`):` with what follows until `return`): 8% fewer tokens for
  Python. Tabs stay with the indentation and never go with a word: 1 to 2% for C;
* the tsheg is part of Tibetan words, which then are clauses and no longer syllables: 30% fewer;
* apostrophes between letters stay inside a word, as French, English and Ukrainian write them;
* 〇 is a Han character among others, as in 二〇二六年;
* the joiners U+200C and U+200D stay inside a word, as Persian and the Indic scripts write them.

Measured and left out, as it made texts longer: a bound on the length of words in scripts that write
no spaces (of 8 to 64 characters, the longer the better), cuts inside camelCase. Punctuation before
a word in any script made no difference.

`multilingual-superword` lets such a word go on over up to seven more, across a space (with at most
two punctuation marks before it) or a hyphen, for tokens of several words. It is for the second
stage of training, which goes on from the merges of `multilingual` (SuperBPE, Liu et al. 2025, arXiv
2503.13423), and for encoding with what comes of it.

Who changes a scheme changes its struct in `native/scanner.cpp` with it; a property of code points
that is not yet known there is one more line in `native/make_classes.py`.
"""

from tokenizers import Regex, pre_tokenizers

from tok import _native

_ANY_CASE_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_CAPITALS = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_SMALL = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"

_PUNCTUATION_WORD = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""

_NUMBER = r"[^\P{N}\p{Han}]{1,3}"
_HAN_KANA = r"[\p{Han}\p{Hiragana}\p{Katakana}ー々]+"
_LETTERS = r"[\p{L}\p{M}〇][\p{L}\p{M}〇\x{200c}\x{200d}་]*"
_WORD = rf"{_LETTERS}(?:['’]{_LETTERS})*"
_MORE_WORDS = rf"(?:(?:[\p{{P}}\p{{S}}]{{0,2}} |-){_WORD}){{0,7}}"
_INDENTATION = r"(?:[^\S\r\n]*\t(?=\S)|[^\S\r\n]+(?!\S))"
_SYMBOLS_AND_LINES = (
    rf" ?[\p{{P}}\p{{S}}]+(?:[\r\n]+{_INDENTATION}?)?|\s*[\r\n]+{_INDENTATION}?"
    + r"|\s*\t(?=\S)|\s+(?!\S)|\s+"
)

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
        _NUMBER,
        _HAN_KANA,
        _PUNCTUATION_WORD + rf"|[^\r\n\t\p{{L}}\p{{P}}\p{{S}}]?{_WORD}|" + _SYMBOLS_AND_LINES,
    ),
    "multilingual-superword": (
        _NUMBER,
        _HAN_KANA,
        _PUNCTUATION_WORD
        + rf"|[^\r\n\t\p{{L}}\p{{P}}\p{{S}}]?{_WORD}{_MORE_WORDS}|"
        + _SYMBOLS_AND_LINES,
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
