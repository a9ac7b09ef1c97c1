"""The multilingual part of the sample: the translations that programs carry.

A gettext catalogue (`.mo`) is a table of pairs, the English message and its translation: labels,
questions, warnings, help of a sentence to a paragraph, in up to a hundred languages and, unlike
most multilingual text that one can install, written by people. Three packages with many and full
catalogues give it: Django (messages to web users and administrators), Plone (content management)
and Gramps (genealogy, whole sentences). A document is one catalogue of one language, its
translations in the catalogue's order, one to a line; a long catalogue is cut into parts of about
`PART_BYTES`.

Left out: messages that were not translated (equal to the English), the catalogue's header, and all
but the last plural form, which is the general one in nearly every language.

The file format: gettext manual, "The Format of GNU MO Files". All offsets come from the file, so
each is checked before it is followed.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

from .locales import language_of
from .packages import Package, find_package, keyed_order

# The weight is the package's share of the domain, in MB at the default size.
SOURCES = ((2.5, "django"), (5.4, "plone.app.locales"), (12.2, "gramps"))

PART_BYTES = 3_000

_MAGIC = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}


class CatalogError(ValueError):
    """A `.mo` file is not what the format says."""


def read_catalog(data: bytes, name: str = "catalogue") -> list[tuple[str, str]]:
    """Parse a `.mo` file into (message, translation) pairs in the file's order.

    The message's context and plural are dropped; of the plural forms the last is kept; the header
    (the empty message) and untranslated messages are left out.
    Raises `CatalogError`, naming `name`, on a wrong magic number, an offset outside the file or
    text that is not UTF-8.
    """
    order = _MAGIC.get(data[:4])
    if order is None:
        raise CatalogError(f"{name}: starts with {data[:4]!r}, not with the .mo magic number")
    if len(data) < 20:
        raise CatalogError(f"{name}: {len(data)} bytes, a .mo header has 20")
    _, count, messages, translations = struct.unpack_from(f"{order}4I", data, 4)
    if max(messages, translations) + 8 * count > len(data):
        raise CatalogError(f"{name}: tables of {count} entries do not fit in {len(data)} bytes")
    keys = struct.unpack_from(f"{order}{2 * count}I", data, messages)
    values = struct.unpack_from(f"{order}{2 * count}I", data, translations)

    def text(table: tuple[int, ...], row: int) -> str:
        length, start = table[2 * row], table[2 * row + 1]
        if start + length > len(data):
            raise CatalogError(f"{name}: entry {row} ends at {start + length} of {len(data)} bytes")
        try:
            return data[start : start + length].decode("utf-8")
        except UnicodeDecodeError as error:
            raise CatalogError(f"{name}: entry {row} is not UTF-8: {error.reason}") from None

    pairs = []
    for row in range(count):
        message = text(keys, row).rpartition("\x04")[2].partition("\0")[0]
        translation = text(values, row).rpartition("\0")[2]
        if message and translation.strip() and translation != message:
            pairs.append((message, translation))
    return pairs


def multilingual_documents(package: Package, seed: int) -> Iterator[dict]:
    """Documents of a package's catalogues, one language and catalogue after another.

    `uri` ends in `#k` for part k of a catalogue; `metadata` adds the locale and the catalogue.
    """
    for path in keyed_order(seed, package.under("", suffixes=[".mo"])):
        language = language_of(package.name, path.split("/")[-3])
        file = Path(package.files[path])
        if language is None or not file.is_file():
            continue
        pairs = read_catalog(file.read_bytes(), f"{package.name}: {path}")
        for part, text in enumerate(_parts([translation for _, translation in pairs])):
            row = package.document("multilingual", f"{path}#{part}", text, language=language)
            origin = json.loads(row["metadata"])
            origin |= {"locale": path.split("/")[-3], "catalog": path.split("/")[-1][:-3]}
            yield {**row, "metadata": json.dumps(origin)}


def multilingual_sources(seed: int) -> list[tuple[float, Iterator[dict]]]:
    """The packages with catalogues as (weight, documents), for `budget.fill`."""
    return [(weight, multilingual_documents(find_package(name), seed)) for weight, name in SOURCES]


def _parts(lines: list[str]) -> Iterator[str]:
    part, size = [], 0
    for line in lines:
        part.append(line)
        size += len(line.encode()) + 1
        if size >= PART_BYTES:
            yield "\n".join(part)
            part, size = [], 0
    if part:
        yield "\n".join(part)
