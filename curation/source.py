"""A source: where documents come from, what to call them, and what may be wrong with it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curation.remote import File, RemoteFile, is_remote

FORMATS = ("parquet", "jsonl", "text", "datasets", "html", "warc")


@dataclass(frozen=True)
class Source:
    """Where documents come from: a file, a folder or an address, and what to call what is in it.

    `path` may be an address (`s3://`, `gs://`, `hf://`, `https://`, …; see `remote.py`, which also
    says what `storage_options` may hold). `language` and `license` fill rows that have none.
    `format` None: by suffix and folder content. `html_field`: a column or key of HTML, bytes or
    text, whose article becomes the text. `max_document_bytes` bounds a document as it is read, a
    line of .jsonl, a page, and what the body of an archived page may expand to.
    """

    path: str
    name: str
    domain: str
    format: str | None = None
    language: str | None = None
    license: str | None = None
    text_field: str = "text"
    max_document_bytes: int = 32 << 20
    html_field: str | None = None
    storage_options: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def column(self) -> str:
        """The column or key that a document is made from."""
        return self.html_field or self.text_field

    def file(self, name: str, alone: bool) -> File:
        """Give one of the source's files by its relative name; `alone`: the path is that file."""
        if is_remote(self.path):
            url = self.path if alone else f"{self.path.rstrip('/')}/{name}"
            return RemoteFile(url, self.storage_options)
        root = Path(self.path)
        return (root.parent if alone else root) / name


class SourceError(ValueError):
    """A source that cannot be read at all; the message begins with its path."""


@dataclass(frozen=True)
class Problem:
    """One bad file, line or row: where it is and what is wrong. `str()` of it is one line."""

    file: str
    where: str
    what: str

    def __str__(self) -> str:
        text = ": ".join(part for part in (self.file, self.where, self.what) if part)
        # A file name may hold line breaks or bytes that are not UTF-8.
        return " ".join(text.encode(errors="replace").decode().splitlines())
