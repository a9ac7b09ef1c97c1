"""Web archives to rows: WARC, WET and ARC, a record at a time.

    response, resource   HTML becomes the text of its article (`html.py`), plain text stays
    conversion           the text of a WET file
    others               passed over, as are answers with a status that is not 2xx, and other media

A row has `text` (may be empty: a page without an article), `uri` (WARC-Target-URI), `title`,
`date`, `content_type`, `status`, and where it was: `archive`, the file, and `record`, its
WARC-Record-ID (in ARC, the byte it begins at). `fastwarc` finds the records, also in lz4 and zstd;
ARC, of which it knows nothing, is read here.

Large files are cut where that is possible. In `.warc.gz` each record is a gzip member of its own:
from each multiple of the split size the next member that begins with `WARC/` is looked for, a few
KiB a cut, nothing else is read. (A WARC stored, uncompressible, as the payload of another could
pass for a cut; records of the inner one would then be read as documents.) In a plain `.warc` on a
local disk the headers are walked, a seek a record. All else is one split a file.

Damage costs one record: reading goes on at the next member, or the next `WARC/` line. A record of
more than `limit` bytes, and a body that would expand to more, is told and skipped; nothing is
expanded past the limit, so a bomb costs no more than `limit` bytes of memory.
"""

import re
import zlib
from collections.abc import Iterator
from itertools import count

from curation import formats
from curation.html import HtmlError, extract
from curation.http_body import BodyError, charset_of, decode_body, decode_text
from curation.remote import File, size_of

HEAD = 1 << 16  # more than the headers of a record ever are
_HTML = ("text/html", "application/xhtml+xml")


def is_arc(name: str) -> bool:
    """Whether a file is in the older format, by its name."""
    return re.search(r"\.arc(\.gz)?$", name.lower()) is not None


def plan_warc(file: File, split_bytes: int) -> list[dict]:
    """Cut an archive into byte ranges that begin at records, or leave it whole.

    Gives `[{"start": …, "end": …}, …]`, or `[{}]`. Raises OSError.
    """
    size = size_of(file)
    name = file.name.lower()
    if size <= split_bytes or is_arc(name):
        return [{}]
    if name.endswith(".gz"):
        cuts = _member_cuts(file, size, split_bytes)
    elif name.endswith((".warc", ".wet")) and not hasattr(file, "url"):
        cuts = _record_cuts(file, size, split_bytes)
    else:
        return [{}]
    if len(cuts) == 1:
        return [{}]
    ends = [*cuts[1:], size]
    return [{"start": a, "end": b} for a, b in zip(cuts, ends, strict=True)]


def _member_cuts(file: File, size: int, split_bytes: int) -> list[int]:
    cuts = [0]
    with file.open("rb") as stream:
        while (wanted := cuts[-1] + split_bytes) < size:
            found = _next_record(stream, wanted, True)
            if found is None:
                break
            cuts.append(found)
    return cuts


def _record_cuts(file: File, size: int, split_bytes: int) -> list[int]:
    cuts, at = [0], 0
    with file.open("rb") as stream:
        while at < size:
            stream.seek(at)
            head = stream.read(HEAD)
            length = re.search(rb"\r?\ncontent-length:\s*(\d{1,18})\s*\r?\n", head, re.I)
            end = re.search(rb"\r?\n\r?\n", head)
            if not (head.startswith(b"WARC/") and length and end and length.start() < end.end()):
                break
            if at - cuts[-1] >= split_bytes:
                cuts.append(at)
            at += end.end() + int(length[1])
            stream.seek(at)
            rest = stream.read(64)
            at += len(rest) - len(rest.lstrip(b"\r\n"))
    return cuts


def _next_record(stream, at: int, packed: bool) -> int | None:
    """Find where the next record begins at or after a byte, going by its first bytes."""
    mark = b"\x1f\x8b\x08" if packed else b"\nWARC/1."
    stream.seek(at)
    data, begin = stream.read(HEAD), 0
    while True:
        place = data.find(mark, begin)
        # A member is tried with some bytes of it at hand.
        if (place < 0 or place + 4096 > len(data)) and (more := stream.read(4 * HEAD)):
            cut = place if place >= 0 else max(len(data) - len(mark) + 1, 0)
            at, data, begin = at + cut, data[cut:] + more, 0
            continue
        if place < 0:
            return None
        if not packed:
            return at + place + 1
        try:
            if zlib.decompressobj(31).decompress(data[place : place + 4096], 64)[:5] == b"WARC/":
                return at + place
        except zlib.error:
            pass
        begin = place + 1


def warc_rows(
    file: File,
    report: formats.Report,
    limit: int,
    start: int = 0,
    end: int | None = None,
    after: int = -1,
) -> formats.Rows:
    """Yield (number of the record in the range, row) for the documents of an archive.

    Of a cut file, the records that begin in the bytes [start, end). Records up to number `after`
    are passed over.
    """
    number = -1

    def fresh(where: str, what: str) -> None:
        if number >= after:  # else it was told when the records passed over were read
            report(where, what)

    try:
        if is_arc(file.name):
            found = _arc_records(file, fresh, limit)
        else:
            found = _records(file, fresh, limit, start, end)
        numbers = count()
        for offset, kind, head, read in found:
            number = next(numbers)
            if number <= after:
                continue
            where = f"record at byte {offset}"
            try:
                row = _row(kind, head, read, limit)
            except (BodyError, HtmlError) as error:
                report(where, f"{error}; skipped")
                continue
            if row is not None:
                row["archive"] = formats.utf8(file.name)
                row["record"] = head.get("warc-record-id") or f"byte {offset}"
                yield number, row
    except formats.DAMAGE as error:
        report(f"after record {number + 1}", f"{formats.one_line(error)}; the rest is lost")
    except (EOFError, zlib.error) as error:
        report(f"after record {number + 1}", f"{error}; the records before it are kept")


def _records(
    file: File, report: formats.Report, limit: int, start: int, end: int | None
) -> Iterator[tuple]:
    """Yield (offset, kind, headers, read) of a WARC; after damage, go on at the next record."""
    from fastwarc.warc import ArchiveIterator

    packed = file.name.lower().endswith(".gz")
    resumable = packed or file.suffix.lower() in (".warc", ".wet")
    at, told = start, -1
    while True:
        last = None
        with file.open("rb") as stream:
            stream.seek(at)
            part = stream if end is None else _Range(stream, end)
            try:
                for record in ArchiveIterator(part, parse_http=False, max_header_len=HEAD):
                    last = record.stream_pos  # from the beginning of the file
                    kind = str(record.record_type).rpartition(".")[2]
                    head = {k.lower(): v for k, v in record.headers.items()}
                    yield last, kind, head, _reader(record, limit)
                return
            except (OSError, ValueError) as error:
                problem = formats.one_line(error)
            after = at if last is None else last
            found = _next_record(stream, after + 1, packed) if resumable else None
        # What comes after the damage may be the damaged record itself, and fail again at once.
        if last is not None or at != told:
            lost = "the rest is lost" if found is None else f"reading goes on at byte {found}"
            report(
                f"{'record at' if last is None else 'after the record at'} byte {after}",
                f"{problem}; {lost}",
            )
        if found is None or (end is not None and found >= end):
            return
        at = told = found


class _Range:
    """A file that seems to end at a byte, so that a range gives all its records and no other."""

    def __init__(self, stream, end: int) -> None:
        self._stream, self._end = stream, end
        self.tell, self.seek = stream.tell, stream.seek

    def read(self, size: int = -1) -> bytes:
        left = max(self._end - self._stream.tell(), 0)
        return self._stream.read(left if size < 0 else min(size, left))


def _reader(record, limit: int):
    """Give a function that reads a record's block; raises BodyError if it is too long or short."""

    def read() -> bytes:
        length = record.content_length
        if length > limit + HEAD:
            raise BodyError(f"{length} bytes, more than max_document_bytes ({limit})")
        parts, held = [], 0
        while held < length and (part := record.reader.read(length - held)):
            parts.append(part)
            held += len(part)
        if held < length:
            raise BodyError(f"truncated: {held} of {length} bytes")
        return b"".join(parts)

    return read


def _row(kind: str, head: dict[str, str], read, limit: int) -> dict | None:
    """Make the row of a record; None if it is no document. Raises BodyError, HtmlError."""
    if kind not in ("response", "resource", "conversion"):
        return None
    # wget writes the address between angle brackets.
    uri = (head.get("warc-target-uri") or "").strip().strip("<>").strip()
    media = head.get("content-type") or ""
    row: dict = {"uri": uri or None, "date": head.get("warc-date")}
    if head.get("warc-truncated"):
        row["truncated"] = head["warc-truncated"]
    if kind == "response":
        answer = _answer(read())
        if answer is None:
            if uri.lower().startswith(("http:", "https:")):
                raise BodyError("a response without an HTTP status line")
            return None  # of another protocol, as crawlers store what DNS said
        status, fields, body = answer
        media = fields.get("content-type", "")
        row["status"] = status
        if not (200 <= status < 300 and body):
            return None
        if _media(media) not in (*_HTML, "text/plain", ""):
            return None
        body = decode_body(
            body, fields.get("transfer-encoding"), fields.get("content-encoding"), limit
        )
    elif _media(media) in (*_HTML, "text/plain"):
        body = read()
    else:
        return None
    if not uri:
        raise BodyError("no WARC-Target-URI")
    row["content_type"] = _media(media) or None
    html = _media(media) in _HTML or re.match(rb"\s*<(!doctype\s+html|html)\b", body[:512], re.I)
    if not html and not _media(media):
        return None
    text = decode_text(body, charset_of(media))
    if html and kind != "conversion":
        page = extract(text)
        row |= {"text": page.text, "title": page.title}
    else:
        row["text"] = text.replace("\r\n", "\n").replace("\0", "")
    if languages := head.get("warc-identified-content-language"):
        row["content_languages"] = languages
    return row


def _media(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _answer(block: bytes) -> tuple[int, dict[str, str], bytes] | None:
    """Take an HTTP response apart: status, fields with names in lower case, body."""
    status = re.match(rb"HTTP/\d(?:\.\d)?[ \t]+(\d{3})", block)
    if status is None:
        return None
    end = re.search(rb"\r?\n\r?\n", block[:HEAD])
    head = block[: end.start()] if end else block[:HEAD]
    fields: dict[str, str] = {}
    for line in head.decode("latin-1").splitlines()[1:]:
        name, colon, value = line.partition(":")
        if colon:
            fields[name.strip().lower()] = value.strip()
    return int(status[1]), fields, block[end.end() :] if end else b""


def _arc_records(file: File, report: formats.Report, limit: int) -> Iterator[tuple]:
    """Yield the records of an ARC file: a line `URL IP date type … length`, then so many bytes.

    The first record describes the others: its third line names the fields of their lines.
    """
    packed = file.name.lower().endswith(".gz")
    chunks = formats.gzip_chunks(file) if packed else formats.plain_chunks(file)
    data, offset, fields = bytearray(), 0, 5

    def need(size: int) -> bool:
        while len(data) < size and (chunk := next(chunks, b"")):
            data.extend(chunk)
        return len(data) >= size

    while True:
        need(HEAD)
        blank = re.match(rb"[\r\n]*", data).end()
        del data[:blank]
        offset += blank
        if not data:
            return
        line, feed, _ = data[:HEAD].partition(b"\n")
        parts = line.decode("utf-8", "replace").strip().rsplit(" ", fields - 1)
        if not feed or len(parts) != fields or not re.fullmatch(r"\d{1,15}", parts[-1]):
            what = line[:60].decode("utf-8", "replace")
            report(f"byte {offset}", f"not a line of an ARC record: {what!r}; the rest is lost")
            return
        length, begin = int(parts[-1]), offset
        del data[: len(line) + 1]
        offset += len(line) + 1 + length
        if length > limit + HEAD:
            report(f"byte {begin}", f"{length} bytes, more than max_document_bytes ({limit})")
            while length > len(data):
                length -= len(data)
                data[:] = next(chunks, b"")
                if not data:
                    return
            del data[:length]
            continue
        whole = need(length)
        block = bytes(data[:length])
        del data[:length]
        if parts[0].startswith("filedesc:"):
            names = block.decode("utf-8", "replace").splitlines()[1:2]
            if names and len(names[0].split()) >= 3 and names[0].startswith("URL"):
                fields = len(names[0].split())
            continue
        if not whole:
            report(f"byte {begin}", f"truncated: {len(block)} of {length} bytes")
            return
        head = {"warc-target-uri": parts[0].replace(" ", "%20"), "warc-date": _date(parts[2])}
        yield begin, "response", head, lambda block=block: block


def _date(digits: str) -> str:
    """Turn an ARC date (YYYYMMDDhhmmss) into that of a WARC."""
    match = re.fullmatch(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)", digits)
    return "{}-{}-{}T{}:{}:{}Z".format(*match.groups()) if match else digits
