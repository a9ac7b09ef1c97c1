"""Domains: which parts of the web a page belongs to, and which of them a collection has found.

A page belongs to its host, and to a part of it: the host with the first folder of the path, as in
`example.org/questions`, because a large host is about many things. Both are kept as 64-bit hashes,
0 for a document without a web address. A part is *found* if more than a share of its pages is in
the collection (DeepSeekMath, section 2.1: a tenth); a part with few pages goes with its host.
"""

from urllib.parse import urlsplit

import numpy as np
import xxhash


def part_of(uri: str | None) -> tuple[str, str]:
    """Name a page's host and part; two empty strings if it has none.

    A host is without `www.`, port and case. A page at the top of a host is in the part `HOST/`.
    """
    try:
        address = urlsplit(uri or "")
        host = (address.hostname or "").removeprefix("www.").rstrip(".")
    except ValueError:  # such as a broken IPv6 address
        return "", ""
    if not host:
        return "", ""
    folders = [name for name in address.path.split("/")[:-1] if name]
    return host, f"{host}/{folders[0] if folders else ''}"


def part_keys(uris: list[str | None]) -> np.ndarray:
    """Hash the host and the part of each page: uint64 [pages, 2]."""
    keys = np.zeros((len(uris), 2), np.uint64)
    for row, uri in enumerate(uris):
        host, part = part_of(uri)
        if host:
            keys[row] = xxhash.xxh3_64_intdigest(host), xxhash.xxh3_64_intdigest(part)
    return keys


class Tally:
    """Counts pages by host and part; 8 bytes a page, and what sorting them takes."""

    def __init__(self, keys: np.ndarray) -> None:
        """`keys` is `part_keys` of all pages."""
        hosts, self._hosts = np.unique(keys[:, 0], return_inverse=True)
        self._parts, first, self.part = np.unique(
            keys[:, 1], return_index=True, return_inverse=True
        )
        self._host_of_part = self._hosts[first]
        self._none = len(self._parts) > 0 and self._parts[0] == 0
        self._pages = np.bincount(self.part, minlength=len(self._parts))
        self._host_pages = np.bincount(self._hosts, minlength=len(hosts))
        self.first = first  # a page of each part

    def found(
        self, collected: np.ndarray, share: float, pages: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Which parts are found, bool [parts], and their collected pages, int64 [parts].

        `collected`: bool [pages]. A part of fewer than `pages` goes with its host, if that has as
        many.
        """
        inside = np.bincount(self.part[collected], minlength=len(self._parts))
        host_inside = np.bincount(self._hosts[collected], minlength=len(self._host_pages))
        of_part = inside > share * self._pages
        of_host = (host_inside > share * self._host_pages) & (self._host_pages >= pages)
        found = np.where(self._pages >= pages, of_part, of_host[self._host_of_part])
        if self._none:
            found[0] = False
        return found, inside

    @property
    def pages(self) -> np.ndarray:
        """Pages of each part: int64 [parts]."""
        return self._pages
