"""Which thresholds a document is judged by: the step's, its language's, its domain's."""

import pytest
import yaml

from curation.c4 import C4Filter
from curation.document import make_batch
from curation.fineweb import FineWebFilter
from curation.gopher import GopherQualityFilter, GopherRepetitionFilter, stop_words
from curation.languages import canonical
from curation.symbols import SymbolFilter
from curation.thresholds import DATA, limits, names

STEPS = {
    step.name: step
    for step in (
        C4Filter,
        FineWebFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
        SymbolFilter,
    )
}


def limit(step, name, domain="web", language=None):
    row = {"text": "", "source": "s", "domain": domain, "language": language}
    (found,) = limits(step, make_batch([row]))[name].tolist()
    return None if found != found else found


def test_languages_count_more_than_defaults_and_domains_more_than_both():
    step = GopherQualityFilter()
    assert limit(step, "min_words") == 50
    assert limit(step, "min_words", language="deu_Latn") == 50
    assert limit(step, "min_words", language="zho_Hans") == 100
    assert limit(step, "min_words", domain="code", language="zho_Hans") is None
    assert limit(step, "max_mean_word", language="fin_Latn") == 12
    assert limit(step, "min_alphabetic_words", domain="math", language="fin_Latn") == 0.4


def test_a_field_that_a_recipe_sets_counts_for_every_language_and_none_for_every_domain():
    step = GopherQualityFilter(min_words=20, max_hashes=None, min_alphabetic_words=None)
    assert limit(step, "min_words", language="zho_Hans") == 20
    assert limit(step, "min_words", domain="code") is None
    assert limit(step, "max_hashes", language="zho_Hans") is None
    assert limit(step, "min_alphabetic_words", domain="math") is None


def test_a_recipes_own_languages_and_domains_count_most():
    step = GopherQualityFilter(
        min_words=20,
        languages={"zho_Hans": {"min_words": 70}, "*": {"min_words": 60}},
        domains={"code": {"min_words": 5}},
    )
    assert limit(step, "min_words") == 20
    assert limit(step, "min_words", language="zho_Hans") == 70
    assert limit(step, "min_words", language="deu_Latn") == 60
    assert limit(step, "min_words", language="deu_Latn", domain="code") == 5
    assert limit(step, "max_words", domain="code") is None  # still as shipped


def test_short_lines_are_judged_in_english_and_where_the_language_is_not_known():
    step = FineWebFilter()
    assert limit(step, "max_short_lines") == 0.67
    assert limit(step, "max_short_lines", language="eng_Latn") == 0.67
    assert limit(step, "max_short_lines", language="deu_Latn") is None
    assert limit(step, "max_short_lines", language="tha_Thai") is None


def test_the_files_that_come_with_the_project_name_what_exists():
    shipped = yaml.safe_load((DATA / "thresholds.yaml").read_text(encoding="utf-8"))
    assert set(shipped) <= set(STEPS)
    for step, places in shipped.items():
        assert set(places) <= {"languages", "domains"}
        for language in places.get("languages", {}):
            assert language in ("*", canonical(language))
        for changed in (entry for place in places.values() for entry in place.values()):
            assert set(changed) <= set(names(STEPS[step]()))
    for language, words in stop_words().items():
        assert language == canonical(language) and len(set(words)) >= 8


@pytest.mark.parametrize("step", STEPS.values())
def test_an_override_of_what_is_no_threshold_is_refused_by_name(step):
    name = names(step())[0]
    with pytest.raises(ValueError, match=rf"languages\.deu_Latn\.lenght: .* one of {name}"):
        step(languages={"deu_Latn": {"lenght": 1}})
    with pytest.raises(ValueError, match=rf"domains\.code\.{name}: expected a number"):
        step(domains={"code": {name: "many"}})
