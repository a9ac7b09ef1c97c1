import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curation.document import SCHEMA, make_batch
from curation.language import LanguageFilter, _known, _model, least_scores, predict
from curation.languages import canonical, in_script, script_counts

DATA = Path(__file__).parents[2].parent / "shared" / "data"

ENGLISH = "The committee met on Tuesday and decided that the bridge should be repaired next year."
GERMAN = "Der Ausschuss traf sich am Dienstag und beschloss, die Brücke im nächsten Jahr zu bauen."
SERBIAN = (
    "Влада Републике Србије је јуче саопштила да ће се радови на обнови моста наставити почетком "
    "идуће године, пошто су се грађани Београда жалили на гужве у саобраћају."
)


def batch_of(*rows):
    return make_batch(
        {"source": "s", "domain": "web", "uri": str(i), **row} for i, row in enumerate(rows)
    )


def test_a_missing_language_is_filled_in_with_its_script_and_score():
    metadata = '{"a": 1}'
    out = LanguageFilter()(
        batch_of({"text": ENGLISH, "metadata": metadata}, {"text": GERMAN}, {"text": SERBIAN})
    )
    assert out["language"].to_pylist() == ["eng_Latn", "deu_Latn", "srp_Cyrl"]
    assert out["reject"].to_pylist() == [None] * 3
    first = json.loads(out["metadata"][0].as_py())
    assert first["a"] == 1
    assert 0.35 < first["lid_score"] <= 1
    assert first["lid_score"] == round(first["lid_score"], 4)


def test_a_declared_language_is_kept_in_its_canonical_form_and_not_scored():
    out = LanguageFilter()(batch_of({"text": ENGLISH, "language": "de"}))
    assert out["language"].to_pylist() == ["deu_Latn"]
    assert out["metadata"].to_pylist() == [None]
    assert out["reject"].to_pylist() == [None]


def test_a_language_in_a_script_that_it_has_not_is_rejected():
    batch = batch_of({"text": ENGLISH, "language": "rus_Cyrl"}, {"text": SERBIAN, "language": "sr"})
    out = LanguageFilter()(batch)
    assert out["reject"].to_pylist() == ["language:script_mismatch", None]
    assert out["language"].to_pylist() == ["rus_Cyrl", "srp_Cyrl"]


def test_a_declared_language_that_the_model_contradicts_is_rejected_only_without_trust():
    rows = [
        {"text": ENGLISH, "language": "deu_Latn"},
        {"text": ENGLISH, "language": "eng_Latn"},
        {"text": SERBIAN, "language": "bos_Cyrl"},  # relatives are not told apart
        {"text": ENGLISH, "language": "bem_Latn"},  # a language that the model does not know
    ]
    out = LanguageFilter(trust_declared=False)(batch_of(*rows))
    assert out["reject"].to_pylist() == ["language:not_as_declared", None, None, None]
    assert all("lid_score" in json.loads(m) for m in out["metadata"].to_pylist())
    assert LanguageFilter()(batch_of(*rows))["reject"].to_pylist() == [None] * 4


def test_what_has_no_language_is_rejected_by_its_score():
    out = LanguageFilter()(batch_of({"text": "12 34 56 / 78"}, {"text": ""}, {"text": "\0\0"}))
    assert out["reject"].to_pylist() == ["language:low_score"] * 3
    assert LanguageFilter(min_score=1.1)(batch_of({"text": ENGLISH}))["reject"].to_pylist() == [
        "language:low_score"
    ]


def test_only_languages_on_the_list_are_kept_in_any_spelling():
    batch = batch_of({"text": ENGLISH}, {"text": GERMAN}, {"text": GERMAN, "language": "de"})
    out = LanguageFilter(keep=("en",))(batch)
    assert out["reject"].to_pylist() == [None, "language:not_kept", "language:not_kept"]
    assert LanguageFilter(keep=("eng_Latn", "deu_Latn"))(batch)["reject"].null_count == 3


def test_code_keeps_its_programming_language_whatever_is_kept():
    rows = [
        {"text": "x = 1", "domain": "code", "language": "python"},
        {"text": "x = 1", "domain": "code"},
    ]
    out = LanguageFilter(keep=("eng_Latn",))(batch_of(*rows))
    assert out["language"].to_pylist() == ["python", "unknown"]
    assert out["reject"].to_pylist() == [None, None]
    assert out["metadata"].to_pylist() == [None, None]


def test_a_filter_gives_every_row_in_order_and_changes_nothing_else():
    batch = batch_of({"text": ENGLISH}, {"text": "!"}, {"text": "y", "domain": "code"})
    out = LanguageFilter()(batch)
    assert out.schema.names == [*SCHEMA.names, "reject"]
    for name in ("id", "text", "source", "domain", "uri", "license", "parents"):
        assert out[name] == batch[name]
    assert LanguageFilter()(batch.slice(1, 1)).to_pylist() == out.slice(1, 1).to_pylist()
    assert LanguageFilter()(batch.slice(0, 0)).num_rows == 0


def test_line_breaks_do_not_matter():
    broken = ENGLISH.replace(" ", "\n\n")
    assert predict([broken])[0] == predict([ENGLISH])[0]


def test_a_page_is_of_the_language_of_most_of_it_whatever_it_begins_with():
    assert predict([ENGLISH * 4 + SERBIAN * 50])[0][0] == "sr"
    assert predict([ENGLISH * 30])[0][0] == "en"


def test_addresses_and_names_in_code_do_not_count_as_words():
    noisy = ENGLISH.replace(" ", " https://beispiel.de/ueber_uns/seite?nr=12 set_xyz() <br/> ")
    assert predict([noisy]) == predict([ENGLISH])


def test_each_language_has_a_threshold_of_its_own_which_a_recipe_may_set():
    batch = batch_of({"text": ENGLISH}, {"text": GERMAN})
    low = "language:low_score"
    assert least_scores()["deu"] != least_scores()["kor"]
    assert all(0 < score < 1 for score in least_scores().values())
    assert LanguageFilter(min_scores={"de": 1.1})(batch)["reject"].to_pylist() == [None, low]
    strict = LanguageFilter(min_score=1.1, min_scores={"de-CH": 0.1})
    assert strict(batch)["reject"].to_pylist() == [low, None]


CODE = (
    "int main(void) {\n  for (int i = 0; i < n; ++i) {\n    total += a[i];\n  }\n  return 0;\n}\n"
)
LATEX = "$\\sum_{i=1}^{n} x_{i}$ \\to \\infty \\frac{a}{b} \\alpha \\le \\beta\n"


def test_code_and_formulas_on_the_web_have_no_language_and_are_not_rejected():
    batch = batch_of({"text": CODE * 9}, {"text": LATEX * 9}, {"text": ENGLISH})
    out = LanguageFilter(keep=("en",))(batch)
    assert out["language"].to_pylist() == ["unknown", "unknown", "eng_Latn"]
    assert out["reject"].to_pylist() == [None] * 3
    said = [json.loads(value) for value in out["metadata"].to_pylist()]
    assert [value["kind"] for value in said] == ["code", "math", "prose"]
    assert "lid_score" not in said[0]


def test_mathematics_in_words_keeps_the_language_of_its_words():
    german = (
        "Sei $f \\colon X \\to Y$ eine stetige Abbildung zwischen zwei Räumen. Dann ist das Urbild "
        "$f^{-1}(U)$ jeder offenen Menge $U \\subset Y$ offen, wie man leicht sieht.\n"
    )
    out = LanguageFilter(keep=("de",))(batch_of({"text": german * 5}))
    assert out["language"].to_pylist() == ["deu_Latn"]
    assert json.loads(out["metadata"][0].as_py())["kind"] == "math"
    assert out["reject"].to_pylist() == [None]


def test_a_declared_language_is_not_contradicted_by_code():
    out = LanguageFilter(trust_declared=False)(batch_of({"text": CODE * 9, "language": "de"}))
    assert out["language"].to_pylist() == ["deu_Latn"]
    assert out["reject"].to_pylist() == [None]


def test_a_missing_model_is_named_with_the_way_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("GRISTMILL_LID_MODEL", str(tmp_path / "none.ftz"))
    _model.cache_clear()
    try:
        with pytest.raises(FileNotFoundError, match=r"none\.ftz; install the package"):
            predict(["text"])
    finally:
        _model.cache_clear()


def test_translated_news_is_recognised_in_the_languages_that_the_model_knows():
    path = DATA / "parallel" / "ntrex128.parquet"
    if not path.exists():
        pytest.skip("NTREX is not here")
    texts: dict = {}
    for row in pq.read_table(path, columns=["language", "line", "text"]).to_pylist():
        if row["line"] < 100:
            texts.setdefault(row["language"], []).append(row["text"])
    right = total = 0
    for code, lines in texts.items():
        if canonical(code).split("_")[0] in _known():
            chunks = ["\n".join(lines[i : i + 5]) for i in range(0, len(lines), 5)]
            for chunk, (label, _) in zip(chunks, predict(chunks), strict=True):
                right += in_script(label, script_counts(chunk)) == canonical(code)
                total += 1
    assert total > 1500
    assert right / total >= 0.9
