"""From a row to a document: the values of `SCHEMA`, in its order, or what is wrong with the row.

A row written by curation itself (a valid `id`, `text`, `source` and `domain`) keeps what it has.
Any other becomes a new document of the source: its id is made of source, uri and text, its scalars
go into `metadata`. HTML is extracted here, from the row's `html_field`.
"""

import json
import math
import re

import pyarrow as pa

from curation import formats
from curation.document import SCHEMA, document_id
from curation.html import HtmlError, extract
from curation.http_body import decode_text
from curation.languages import canonical
from curation.source import Source

_ID = re.compile("[0-9a-f]{32}")


def document(
    row: dict,
    uri: str,
    file: str,
    where: str,
    source: Source,
    report: formats.Report,
    html_field: str | None = None,
) -> tuple | None:
    """Make the values of one row of `SCHEMA`, in its order; None if there is something wrong."""
    if html_field is not None and row.get(html_field) is not None:
        page = row.pop(html_field)
        try:
            page = extract(decode_text(page) if isinstance(page, bytes) else page)
        except (HtmlError, TypeError) as error:
            return report(where, f"{html_field!r}: {formats.one_line(error)}; skipped")
        row = {"title": page.title, **row, source.text_field: page.text}
    text = row.get(source.text_field)
    if text is None:
        found = ", ".join(map(repr, list(row)[:8])) if html_field is None else ""
        told = (
            f" (text_field) among {found[:200]}" if found and source.text_field not in row else ""
        )
        return report(where, f"no {html_field or source.text_field!r}{told}; skipped")
    if not isinstance(text, str):
        what = f"{source.text_field!r} is of type {type(text).__name__}, expected a string"
        return report(where, f"{what}; skipped")
    try:
        size = len(text.encode())
        if size > source.max_document_bytes:
            limit = source.max_document_bytes
            return report(where, f"{size} bytes, more than max_document_bytes ({limit}); skipped")
        if source.text_field == "text" and _is_ours(row):
            return _ours(row, source)
        return _foreign(row, text, uri, file, source)
    except UnicodeEncodeError:
        return report(where, "a lone surrogate, which is not text; skipped")
    except (pa.ArrowException, TypeError, ValueError, OverflowError, RecursionError) as error:
        return report(where, f"{formats.one_line(error)}; skipped")


def _is_ours(row: dict) -> bool:
    required = (row.get("id"), row.get("source"), row.get("domain"))
    return all(isinstance(v, str) for v in required) and _ID.fullmatch(row["id"]) is not None


def _ours(row: dict, source: Source) -> tuple:
    """Pass a row of our own through; raises if a value does not fit its column."""
    if isinstance(row.get("metadata"), str) and not isinstance(json.loads(row["metadata"]), dict):
        raise ValueError("'metadata' is not a JSON object")
    fill = {"language": _language(source.language, row["domain"]), "license": source.license}
    values = []
    for field in SCHEMA:
        value = row.get(field.name)
        if value is None:
            value = fill.get(field.name)
        if value is not None and field.name != "text":
            pa.scalar(value, type=field.type)
        values.append(value)
    return tuple(values)


def _foreign(row: dict, text: str, uri: str, file: str, source: Source) -> tuple:
    for key in ("uri", "url"):
        if isinstance(row.get(key), str) and row[key]:
            uri = row[key]
            break
    language = row.get("language")
    if not isinstance(language, str) or not language:
        language = source.language
        if language is None and source.domain == "code":
            language = formats.code_language(file)
    language = _language(language, source.domain)
    granted = row.get("license")
    if not isinstance(granted, str) or not granted:
        granted = source.license
    used = {"id", "uri", "url", "language", "license", source.text_field}
    scalars = {key: _scalar(value) for key, value in row.items() if key not in used}
    rest = {key: value for key, value in scalars.items() if value is not None}
    metadata = json.dumps(rest, ensure_ascii=False, sort_keys=True) if rest else None
    for value in (language, granted, metadata):
        if value is not None:
            value.encode()  # raises for a lone surrogate
    name = document_id(source.name, uri, text)
    return (
        name, text, source.name, source.domain, language, uri, granted, metadata, None, None, None
    )  # fmt: skip


def _language(code: str | None, domain: str) -> str | None:
    """Translate the code of a natural language; programming languages keep their names."""
    return code if code is None or domain == "code" else canonical(code)


def _scalar(value: object) -> object:
    """Give the JSON form of a scalar for `metadata`, None for what has none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | bool | int) else None


def batch_of(documents: list[tuple]) -> pa.RecordBatch:
    columns = zip(*documents, strict=True)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
