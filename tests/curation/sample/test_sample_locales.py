"""Locale names to language codes: every locale that the packages carry has one."""

import re

from curation.sample.catalogs import SOURCES
from curation.sample.locales import EXCEPTIONS, LANGUAGES, language_of
from curation.sample.packages import find_package


def carried():
    return {
        (name, path.split("/")[-3])
        for _, name in SOURCES
        for path in find_package(name).under("", suffixes=[".mo"])
    }


def test_every_locale_but_the_english_ones_has_a_code():
    unknown = {(name, locale) for name, locale in carried() if language_of(name, locale) is None}
    assert {locale for _, locale in unknown} == {"en", "en_AU", "en_CA", "en_GB", "en_IE"} & {
        locale for _, locale in carried()
    }


def test_codes_are_a_language_of_three_letters_and_a_script_of_four():
    for code in [*LANGUAGES.values(), *EXCEPTIONS.values()]:
        assert re.fullmatch(r"[a-z]{3}_[A-Z][a-z]{3}", code), code


def test_one_locale_can_be_written_in_another_script_by_one_package():
    assert language_of("django", "sr") == "srp_Cyrl"
    assert language_of("plone.app.locales", "sr") == "srp_Latn"
