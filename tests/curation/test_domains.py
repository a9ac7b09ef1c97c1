from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.domains import Tally, part_keys, part_of


@pytest.mark.parametrize(
    ("uri", "host", "part"),
    [
        ("https://www.example.org/questions/12", "example.org", "example.org/questions"),
        ("http://EXAMPLE.org:8080/questions/a/b?c=/d", "example.org", "example.org/questions"),
        ("https://example.org/about", "example.org", "example.org/"),
        ("https://example.org", "example.org", "example.org/"),
        ("https://example.org./a//b", "example.org", "example.org/a"),
        ("https://user@example.org/a/b", "example.org", "example.org/a"),
        ("https://münchen.example/straße/1", "münchen.example", "münchen.example/straße"),
        ("folder/file.txt", "", ""),
        ("http://[::1/x", "", ""),
        ("", "", ""),
        (None, "", ""),
    ],
)
def test_a_page_belongs_to_a_host_and_a_part_of_it(uri, host, part):
    assert part_of(uri) == (host, part)
    assert (part_keys([uri])[0] == 0).all() == (host == "")


PAGES = st.lists(
    st.tuples(st.sampled_from(["a", "b", ""]), st.sampled_from(["x/", "y/", ""]), st.booleans()),
    max_size=40,
)


@given(PAGES, st.sampled_from([0.0, 0.1, 0.5]), st.integers(1, 6))
def test_parts_are_found_as_by_counting(pages, share, least):
    uris = [f"http://{host}/{folder}1" if host else "file" for host, folder, _ in pages]
    collected = np.array([inside for *_, inside in pages], bool)
    parts = [part_of(uri) for uri in uris]
    of_host, of_part = Counter(host for host, _ in parts), Counter(part for _, part in parts)
    in_host = Counter(host for (host, _), yes in zip(parts, collected, strict=True) if yes)
    in_part = Counter(part for (_, part), yes in zip(parts, collected, strict=True) if yes)
    tally = Tally(part_keys(uris))
    found, inside = tally.found(collected, share, least)
    for row, (host, part) in enumerate(parts):
        if of_part[part] >= least:
            expected = in_part[part] > share * of_part[part]
        else:
            expected = of_host[host] >= least and in_host[host] > share * of_host[host]
        assert found[tally.part[row]] == (expected and host != "")
        assert inside[tally.part[row]] == in_part[part]
        assert tally.pages[tally.part[row]] == of_part[part]
