"""Bodies as servers and archives leave them, and the characters in them."""

import gzip
import random
import zlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.http_body import BodyError, charset_of, decode_body, decode_text

TEXT = b"<p>plain text of a page</p>" * 20
LIMIT = 1 << 20


def gzipped(data):
    """Without the time: tests are called by what they are given, the same in every process."""
    return gzip.compress(data, mtime=0)


def chunked(data, sizes, end=b"0\r\n\r\n"):
    out, at = b"", 0
    for size in [*sizes, len(data)]:
        part = data[at : at + size]
        if part:
            out += b"%x;ext=1\r\n%b\r\n" % (len(part), part)
        at += size
    return out + end


def raw_deflate(data):
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@given(st.binary(max_size=300), st.lists(st.integers(1, 99), max_size=6))
def test_chunks_are_joined(data, sizes):
    assert decode_body(chunked(data, sizes), "chunked", None, LIMIT) == data


@pytest.mark.parametrize(
    ("body", "transfer", "content"),
    [
        (TEXT, None, None), (TEXT, "identity", "identity"), (gzipped(TEXT), None, "gzip"),
        (gzipped(TEXT), None, "x-gzip"), (zlib.compress(TEXT), None, "deflate"),
        (raw_deflate(TEXT), None, "deflate"), (TEXT, None, "gzip"), (TEXT, None, "deflate"),
        (TEXT, None, "br"), (TEXT, "chunked", None), (TEXT, "chunked", "gzip"),
        (chunked(gzipped(TEXT), [7, 20]), "Chunked", "GZIP"),
        (gzipped(zlib.compress(TEXT)), None, "deflate, gzip"),
        (chunked(TEXT, [10, 20], end=b""), "chunked", None),
        (gzipped(TEXT) + b"trailing", None, "gzip"),
    ],
)  # fmt: skip
def test_codings_are_undone_and_what_is_not_coded_stays(body, transfer, content):
    assert decode_body(body, transfer, content, LIMIT) == TEXT


def test_brotli_and_zstd_are_undone():
    brotli = pytest.importorskip("brotli")
    assert decode_body(brotli.compress(TEXT), None, "br", LIMIT) == TEXT
    packed = pa.Codec("zstd").compress(TEXT, asbytes=True)
    assert decode_body(packed, None, "zstd", LIMIT) == TEXT


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_a_bomb_is_refused_without_being_expanded(coding):
    brotli = pytest.importorskip("brotli")
    zeros = bytes(64 << 20)
    pack = {
        "gzip": gzip.compress, "deflate": zlib.compress,
        "br": lambda data: brotli.compress(data, quality=5),
        "zstd": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
    }[coding]  # fmt: skip
    body = pack(zeros)
    assert len(body) < 1 << 17
    with pytest.raises(BodyError, match=r"expands to more than max_document_bytes \(1048576\)"):
        decode_body(body, None, coding, LIMIT)
    with pytest.raises(BodyError, match="more than max_document_bytes"):
        decode_body(zeros, None, None, LIMIT)


def test_a_truncated_stream_gives_what_is_there_and_noise_is_refused():
    packed = gzip.compress(random.Random(1).randbytes(5000).hex().encode())
    found = decode_body(packed[: len(packed) // 2], None, "gzip", LIMIT)
    assert 3000 < len(found) < 7000
    with pytest.raises(BodyError, match="does not fit"):
        decode_body(b"\x1f\x8b" + bytes(50), None, "gzip", LIMIT)
    with pytest.raises(BodyError, match="unknown Content-Encoding 'rot13'"):
        decode_body(TEXT, None, "rot13", LIMIT)


@given(st.binary(max_size=400), st.sampled_from(["gzip", "deflate", "br", "zstd", "gzip, br"]))
def test_any_bytes_are_decoded_or_refused(data, coding):
    try:
        assert len(decode_body(data, "chunked", coding, 1000)) <= 1000
    except BodyError as error:
        assert str(error)


WORDS = {
    "windows-1251": "Широкая электрификация южных губерний даст мощный толчок подъёму",
    "shift_jis": "これは日本語の文章です。文字コードを判定します。",
    "gbk": "这是中文网页的内容，需要检测编码。",
    "iso-8859-2": "Příliš žluťoučký kůň úpěl ďábelské ódy",
    "euc-kr": "한국어 웹 페이지의 내용입니다",
}


@pytest.mark.parametrize("charset", WORDS)
def test_a_charset_is_taken_from_the_header_or_the_page_or_the_bytes(charset):
    page = f"<html><head>{{}}</head><p>{WORDS[charset] * 20}"
    assert decode_text(page.encode(charset), charset) == page
    told = page.format(f'<meta http-equiv="Content-Type" content="text/html; charset={charset}">')
    assert decode_text(told.encode(charset)) == told
    short = page.format(f"<meta charset={charset}>")
    assert decode_text(short.encode(charset)) == short
    # The detector wants more, and more varied, text for the other two.
    if charset not in ("iso-8859-2", "euc-kr"):
        assert decode_text(page.encode(charset)) == page


def test_utf8_wins_over_what_is_declared_and_a_mark_over_everything():
    page = '<meta charset="iso-8859-1"><p>naïve — 漢字'
    assert decode_text(page.encode(), "windows-1252") == page
    for codec in ("utf-8-sig", "utf-16"):
        assert decode_text(page.encode(codec), "windows-1251") == page
    assert (
        decode_text("漢字".encode("utf-16-le") + "abc".encode("utf-16-le"), "utf-16le") == "漢字abc"
    )


def test_wrong_names_and_wrong_bytes_still_give_text():
    assert decode_text(b"plain", "no-such-charset") == "plain"
    assert decode_text(b"abc \x81\xff def", "windows-1252").startswith("abc ")
    assert decode_text(b"") == ""
    assert charset_of('text/html; charset="UTF-8"') == "UTF-8"
    assert charset_of("text/html") is None


@given(st.binary(max_size=300), st.sampled_from([None, "utf-8", "gbk", "utf-16", "utf-7", "x"]))
def test_any_bytes_become_text(data, charset):
    decode_text(data, charset).encode()
