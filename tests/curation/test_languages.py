from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.languages import (
    SCRIPTS,
    all_script_counts,
    bcp47,
    canonical,
    in_script,
    script_counts,
    script_of,
)

DATA = Path(__file__).parents[2].parent / "shared" / "data"

ISO_639_1 = [
    code
    for line in (
        "aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu",
        "cv cy da de dv dz ee el en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi",
        "ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks",
        "ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl",
        "nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk",
        "sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz",
        "ve vi vo wa wo xh yi yo za zh zu",
    )
    for code in line.split()
]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("__label__zh", "zho_Hans"), ("zh", "zho_Hans"), ("zho-CN", "zho_Hans"),
        ("zho-TW", "zho_Hant"), ("zh-Hant", "zho_Hant"), ("zh_HK", "zho_Hant"),
        ("zho_Hani", "zho_Hani"), ("cmn", "zho_Hans"), ("sh", "hbs_Latn"),
        ("als", "gsw_Latn"), ("__label__als", "gsw_Latn"), ("als_Latn", "als_Latn"),
        ("sqi", "als_Latn"), ("pt_BR", "por_Latn"), ("sr@latin", "srp_Latn"), ("sr", "srp_Cyrl"),
        ("srp-Latn", "srp_Latn"), ("eng-src", "eng_Latn"), ("spa-ref2", "spa_Latn"),
        ("est", "ekk_Latn"), ("fas", "pes_Arab"), ("ara_Arab", "arb_Arab"), ("no", "nob_Latn"),
        ("swahili_Latn", "swh_Latn"), ("bh", "bho_Deva"), ("EN", "eng_Latn"),
        ("en_US.UTF-8", "eng_Latn"), ("deu_Zyyy", "deu_Zyyy"), ("bxk_Latn", "bxk_Latn"),
    ],
)  # fmt: skip
def test_everyones_codes_have_one_canonical_form(code, expected):
    assert canonical(code) == expected


@pytest.mark.parametrize("name", ["python", "c", "cpp", "go", "unknown", "C++", "", "racv_Latn"])
def test_what_is_no_known_language_is_left_as_it_is(name):
    assert canonical(name) == name
    assert bcp47(name) == name


def test_every_two_letter_code_is_known_and_comes_back():
    for code in ISO_639_1:
        known = canonical(code)
        assert "_" in known, code
        # Norwegian is written as Bokmål, Bihari is Bhojpuri in Wikipedia.
        assert bcp47(known) == {"no": "nb", "fj": "fj"}.get(code, code)


def test_canonical_forms_are_their_own_canonical_form():
    for language, scripts in SCRIPTS.items():
        for script in scripts:
            assert canonical(f"{language}_{script}") == f"{language}_{script}"


@given(st.text(max_size=20))
def test_any_text_can_be_asked_for_and_asked_again(code):
    assert canonical(canonical(code)) in (canonical(code), "gsw_Latn")


def test_the_corpora_s_labels_are_all_known():
    path = DATA / "parallel" / "ntrex128.parquet"
    if not path.exists():
        pytest.skip("NTREX is not here")
    table = pq.read_table(path, columns=["language", "script", "text"])
    texts: dict = {}
    for row in table.to_pylist():
        texts.setdefault((row["language"], row["script"]), []).append(row["text"])
    assert len(texts) > 120
    for (code, script), lines in texts.items():
        counts = script_counts(" ".join(lines))
        assert canonical(code)[3] == "_", code
        found = in_script(code, counts)
        if script != "Hani":  # its name for Cantonese, where we tell Hans from Hant
            assert found == f"{canonical(code)[:3]}_{script}", code


def test_tags_for_dataset_cards_name_the_script_only_where_it_is_unusual():
    assert [bcp47(c) for c in ("deu_Latn", "srp_Cyrl", "srp_Latn", "zho_Hans", "zho_Hant")] == [
        "de", "sr", "sr-Latn", "zh", "zh-Hant",
    ]  # fmt: skip
    assert bcp47("bxk_Latn") == "bxk"
    assert bcp47("rus_Latn") == "ru-Latn"
    assert bcp47("deu_Zyyy") == "de"


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("plain words", "Latn"), ("naïveté", "Latn"), ("Ａ Ｂ", "Latn"), ("Привет, мир", "Cyrl"),
        ("ελληνικά", "Grek"), ("שלום", "Hebr"), ("مرحبا", "Arab"), ("हिन्दी", "Deva"),
        ("汉语这个问题", "Hans"), ("漢語這個問題", "Hant"),
        ("中文", "Hani"), ("日本語です", "Jpan"),
        ("カタカナ", "Jpan"), ("한국어", "Hang"), ("ภาษาไทย", "Thai"), ("ትግርኛ", "Ethi"),
        ("ⵜⴰⵎⴰⵣⵉⵖⵜ", "Tfng"), ("ߒߞߏ", "Nkoo"), ("", "Zyyy"), ("12 + 3 = 15!", "Zyyy"),
        ("😀", "Zyyy"),         ("\ue000\U0010ffff", "Zyyy"), ("русский text текст", "Cyrl"),
    ],
)  # fmt: skip
def test_the_script_of_a_text_is_that_of_most_letters(text, script):
    assert script_of(text) == script


@given(st.text())
def test_scripts_are_counted_like_letters(text):
    counts = script_counts(text)
    assert sum(counts.values()) <= len(text)
    assert script_of(text) == next(iter(counts), "Zyyy")


@settings(deadline=None)  # the first call imports
@given(st.lists(st.text() | st.text("aZ-д漢汉中かカ가ก😀\u0301", max_size=90)))
def test_scripts_of_a_batch_are_counted_as_those_of_each_text(texts):
    texts = [text.encode("utf-8", "replace").decode() for text in texts]
    for kind in (pa.string(), pa.large_string()):
        counts = all_script_counts(pa.array(texts, kind))
        assert [list(c.items()) for c in counts] == [list(script_counts(t).items()) for t in texts]


def test_a_label_without_a_script_gets_the_one_of_the_text():
    assert in_script("sr", script_counts("Dobar dan")) == "srp_Latn"
    assert in_script("sr", script_counts("Добар дан")) == "srp_Cyrl"
    assert in_script("zh", script_counts("這個問題")) == "zho_Hant"
    assert in_script("ja", script_counts("東京都庁")) == "jpn_Jpan"
    assert in_script("zho_Hani", script_counts("這個問題")) == "zho_Hani"


def test_a_label_that_its_text_contradicts_has_no_form():
    assert in_script("ru", script_counts("Privet, mir")) is None
    assert in_script("rus_Cyrl", script_counts("Privet, mir")) is None
    assert in_script("zh", script_counts("plain English")) is None
    assert in_script("rus_Latn", script_counts("Privet, mir")) == "rus_Latn"
    assert in_script("ru", script_counts("12345")) == "rus_Cyrl"
    # A page about code has more Latin letters than its own, and is still of its language.
    assert in_script("ru", script_counts("функция " + "function " * 3)) == "rus_Cyrl"
