"""The body of an HTTP response, as an archive stored it, to bytes, and bytes to characters.

Archives keep the bytes of the wire, or almost: many hold a body that is already decoded under
headers that say it is not, or one cut short. So each decoding is tried and, where the bytes do not
fit it from the start, taken as already done. Nothing is expanded past `limit` bytes (and one read):
a body that would be is refused, so a bomb costs `limit` and no more.

Characters, in the order in which browsers and the facts of the web suggest: a byte order mark;
UTF-8 wherever the bytes are valid UTF-8 and not plain ASCII, whatever was declared; the charset of
the header; that of a `<meta>` in the first 4 KiB; resiliparse's detector (uchardet) for the rest.
"""

import re
import zlib
from io import BytesIO

_META = re.compile(rb"""<meta[^>]{0,1000}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{2,40})""", re.I)
_CHARSET = re.compile(r"""charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{2,40})""", re.I)
_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


class BodyError(ValueError):
    """A body that cannot be decoded, or that is larger than it may be."""


def decode_body(body: bytes, transfer: str | None, content: str | None, limit: int) -> bytes:
    """Undo a Transfer-Encoding and a Content-Encoding (chunked, gzip, deflate, br, zstd).

    Raises BodyError if more than `limit` bytes come out, or for a coding that is not known.
    """
    if "chunked" in (transfer or "").lower():
        body = _unchunk(body)
    names = [name.strip().lower() for name in (content or "").split(",")]
    for name in reversed(names):
        if name in ("", "identity", "none", "utf-8", "utf8"):
            continue
        if name in ("gzip", "x-gzip"):
            body = _inflate(body, (31,), limit)
        elif name == "deflate":  # with zlib's header by the standard, without it in practice
            body = _inflate(body, (15, -15), limit)
        elif name in ("br", "zstd"):
            body = _stream(name, body, limit)
        else:
            raise BodyError(f"unknown Content-Encoding {name[:40]!r}")
    if len(body) > limit:
        raise BodyError(f"more than max_document_bytes ({limit})")
    return body


def _unchunk(body: bytes) -> bytes:
    """Join chunks; a body that has no chunk at its start was joined already, and stays."""
    out: list[bytes] = []
    at = 0
    while match := re.compile(rb"\s{0,4}([0-9A-Fa-f]{1,8})[^\r\n]{0,200}\r?\n").match(body, at):
        size = int(match[1], 16)
        if size == 0:
            return b"".join(out)
        chunk = body[match.end() : match.end() + size]
        out.append(chunk)
        at = match.end() + size
        after = body[at : at + 2]
        if len(chunk) < size or not after.startswith((b"\r", b"\n")):
            break
        at += 2 if after == b"\r\n" else 1
    # Chunks that do not fit: nothing was chunked, or it is cut short; with one chunk, tell by luck.
    return b"".join(out) if len(out) > 1 or (out and at >= len(body)) else body


def _inflate(body: bytes, windows: tuple[int, ...], limit: int) -> bytes:
    for bits in windows:
        stream = zlib.decompressobj(wbits=bits)
        try:
            out = stream.decompress(body, limit + 1)
        except zlib.error:
            continue
        if len(out) > limit:
            raise BodyError(f"expands to more than max_document_bytes ({limit})")
        if out or stream.eof:
            return out
    return _as_stored(body)


def _stream(name: str, body: bytes, limit: int) -> bytes:
    from fastwarc.stream_io import BrotliReader, ZstdReader

    out: list[bytes] = []
    held = 0
    try:
        reader = (BrotliReader if name == "br" else ZstdReader)(BytesIO(body))
        while chunk := reader.read(1 << 16):
            held += len(chunk)
            if held > limit:
                raise BodyError(f"expands to more than max_document_bytes ({limit})")
            out.append(chunk)
    except BodyError:
        raise
    except (OSError, ValueError, EOFError):
        pass
    return b"".join(out) if held else _as_stored(body)


def _as_stored(body: bytes) -> bytes:
    """Take a body that its coding does not fit as decoded already, if it looks like text."""
    if body[:2] == b"\x1f\x8b" or body[:512].count(0) > 8 or not body:
        raise (
            BodyError("the body does not fit its Content-Encoding") if body else BodyError("empty")
        )
    return body


def charset_of(content_type: str | None) -> str | None:
    """Name the charset that a Content-Type header declares."""
    match = _CHARSET.search(content_type or "")
    return match[1] if match else None


def decode_text(data: bytes, declared: str | None = None) -> str:
    """Decode the bytes of a page; what no charset explains becomes U+FFFD."""
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5

    for mark, name in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace")
    if not data.isascii() and b"\0" not in data:
        try:
            return data.decode()
        except UnicodeDecodeError:
            pass
    meta = _META.search(data[:4096])
    tried = [declared, meta[1].decode() if meta else None]
    names = [map_encoding_to_html5(name, False) for name in tried if name]
    if b"\0" not in data:  # a page that could tell this in ASCII is not UTF-16
        names = [name for name in names if name and not name.lower().startswith("utf-16")]
    names.append(detect_encoding(data))
    for name in names:
        try:
            return data.decode(name or "utf-8")
        except (UnicodeDecodeError, LookupError):
            continue
    return bytes_to_str(data, next(filter(None, names), "utf-8"), "replace")
