import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.urls import normalise_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.org/a/b", "example.org/a/b"),
        (" HTTP://User:pw@EXAMPLE.org.:80/a/b/#part ", "example.org/a/b"),
        ("https://example.org:443", "example.org"),
        ("https://example.org:80/", "example.org:80"),
        ("http://example.org:8080//", "example.org:8080"),
        ("http://x.org/?utm_source=n&id=3&fbclid=1&UTM_x&gclid=", "x.org?id=3"),
        ("http://x.org/p?b=2&a=1", "x.org/p?b=2&a=1"),
        ("http://x.org/p?utmost=1&clid=2", "x.org/p?utmost=1&clid=2"),
        ("http://x.org/Case?Q=A", "x.org/Case?Q=A"),
        ("http://[2001:DB8::1]:80/x", "2001:db8::1/x"),
        ("http://[::1/x", None),
        ("http://x.org:port/", None),
        ("http:///path", None),
        ("ftp://x.org/a", None),
        ("src/main.py", None),
        ("", None),
        (None, None),
    ],
)
def test_addresses_of_one_page_have_one_spelling(url, expected):
    assert normalise_url(url) == expected


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_none_and_normal_forms_stay(text):
    for url in (text, f"http://{text}", f"https://x.org/{text}"):
        normal = normalise_url(url)
        if normal is not None and "[" not in url and "]" not in url and ":" not in normal:
            assert normalise_url(f"http://{normal}") in (normal, None)
