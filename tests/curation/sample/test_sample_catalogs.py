"""Reading gettext catalogues, real and hostile, and what the translations look like."""

import gettext
import struct
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.sample.catalogs import SOURCES, CatalogError, multilingual_documents, read_catalog
from curation.sample.packages import find_package

SCRIPTS = {
    "Arab": ("ARABIC",),
    "Armn": ("ARMENIAN",),
    "Beng": ("BENGALI",),
    "Cyrl": ("CYRILLIC",),
    "Deva": ("DEVANAGARI",),
    "Ethi": ("ETHIOPIC",),
    "Geor": ("GEORGIAN",),
    "Grek": ("GREEK",),
    "Guru": ("GURMUKHI",),
    "Hang": ("HANGUL",),
    "Hans": ("CJK",),
    "Hant": ("CJK",),
    "Hebr": ("HEBREW",),
    "Jpan": ("HIRAGANA", "KATAKANA", "CJK"),
    "Khmr": ("KHMER",),
    "Knda": ("KANNADA",),
    "Latn": ("LATIN",),
    "Mlym": ("MALAYALAM",),
    "Mymr": ("MYANMAR",),
    "Taml": ("TAMIL",),
    "Telu": ("TELUGU",),
    "Thai": ("THAI",),
}


def compile_catalog(pairs, order="<"):
    """A `.mo` file, written from the manual's description of the format."""
    start = 28 + 16 * len(pairs)
    tables, blob = [], b""
    for column in (0, 1):
        for pair in pairs:
            text = pair[column].encode()
            tables += [len(text), start + len(blob)]
            blob += text + b"\0"
    head = (0x950412DE, 0, len(pairs), 28, 28 + 8 * len(pairs), 0, 0)
    return struct.pack(f"{order}7I{len(tables)}I", *head, *tables) + blob


@pytest.fixture(scope="module")
def documents():
    return [
        row for _, name in SOURCES for row in multilingual_documents(find_package(name), seed=0)
    ]


plain = st.text(st.characters(exclude_characters="\0\x04", exclude_categories=["Cs"]), min_size=1)


@given(st.lists(st.tuples(plain, plain)), st.sampled_from("<>"))
def test_a_catalogue_gives_its_translations_in_order_whatever_its_byte_order(pairs, order):
    kept = [(m, t) for m, t in pairs if t != m and t.strip()]
    assert read_catalog(compile_catalog(pairs, order)) == kept


def test_context_is_dropped_and_the_last_plural_form_kept():
    data = compile_catalog(
        [
            ("", "Content-Type: text/plain"),
            ("menu\x04Open", "Öffnen"),
            ("%d file\0%d files", "%d Datei\0%d Dateien"),
            ("Cancel", "Cancel"),
        ]
    )
    assert read_catalog(data) == [("Open", "Öffnen"), ("%d file", "%d Dateien")]


def test_real_catalogues_say_what_the_standard_library_reads_in_them():
    package = find_package("gramps")
    for locale in ("fr", "ja", "sr"):
        path = Path(package.files[f"share/locale/{locale}/LC_MESSAGES/gramps.mo"])
        read = defaultdict(set)
        for message, translation in read_catalog(path.read_bytes()):
            read[message].add(translation)
        with path.open("rb") as file:
            oracle = gettext.GNUTranslations(file)
        plain = {m: oracle.gettext(m) for m in read if oracle.ngettext(m, m, 1) == m}
        translated = {m: t for m, t in plain.items() if t != m}
        assert len(translated) > 4000
        assert [m for m, t in translated.items() if t not in read[m]] == []


def test_a_catalogue_cut_short_anywhere_is_an_error_and_never_a_wrong_text():
    data = compile_catalog([("one", "eins"), ("two", "zwei")])
    for length in range(len(data) - 1):
        with pytest.raises(CatalogError):
            read_catalog(data[:length])


@given(st.binary(max_size=80), st.sampled_from((b"\xde\x12\x04\x95", b"\x95\x04\x12\xde", b"")))
def test_hostile_bytes_raise_one_error(data, magic):
    try:
        pairs = read_catalog(magic + data, "evil.mo")
    except CatalogError as error:
        assert str(error).startswith("evil.mo: ")
    else:
        assert all(t and t != m for m, t in pairs)


def test_a_count_of_four_thousand_million_is_refused_without_reading():
    with pytest.raises(CatalogError, match="4294967295 entries do not fit"):
        read_catalog(struct.pack("<5I", 0x950412DE, 0, 2**32 - 1, 28, 28))


def test_sixty_languages_in_twelve_scripts_without_english(documents):
    size = Counter()
    for row in documents:
        size[row["language"]] += len(row["text"].encode())
    assert len(size) >= 60
    assert len({language[-4:] for language in size}) >= 12
    assert "eng_Latn" not in size
    assert sum(size.values()) > 15_000_000


def test_every_language_is_written_in_the_script_that_its_code_names(documents):
    letters = defaultdict(Counter)
    for row in documents:
        for c in row["text"][-400:]:
            if c.isalpha():
                letters[row["source"], row["language"]][unicodedata.name(c, "?").split()[0]] += 1
    for (source, language), counts in letters.items():
        own = sum(counts[name] for name in SCRIPTS[language[-4:]])
        assert own > 0.5 * counts.total(), (source, language, counts.most_common(3))


def test_documents_are_parts_of_a_catalogue_of_readable_size(documents):
    assert len({row["uri"] for row in documents}) == len(documents)
    for row in documents:
        assert row["text"].strip()
        assert len(row["text"].encode()) < 30_000
