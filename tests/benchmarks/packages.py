"""The machine's Python and C sources by package, dealt by name to training, development and test.

A package's name decides by its hash, so that no package is on two sides, a copy that another one
carries along (`pip/_vendor/rich`) included. A package is the folder (or module) below
`site-packages`, below Python's library or below /usr/include. Of each at most 3 MiB are taken, so
that no large one decides; every content counts once.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from corpora import read_sources, source_files

KINDS = dict.fromkeys((".py", ".pyi", ".pyx"), "python") | dict.fromkeys(
    (".c", ".cc", ".cpp", ".h", ".hh", ".hpp"), "c"
)
PARTS = ("train",) * 7 + ("development",) + ("test",) * 2
MOST = 3 << 20


def package_of(path: Path) -> str:
    """The package that a source file belongs to."""
    parts = path.parts
    for mark in ("_vendor", "site-packages", "dist-packages"):
        if mark in parts[:-1]:
            after = len(parts) - 1 - parts[::-1].index(mark, 1)
            return parts[after + 1].split(".")[0]
    if parts[:3] == ("/", "usr", "include"):
        inside = [part for part in parts[3:] if "-linux-" not in part and part != "node"]
        return inside[0].split(".")[0] if len(inside) > 1 else "include"
    library = next((i for i, part in enumerate(parts) if part.startswith("python3.")), None)
    return f"python/{parts[library + 1].split('.')[0]}" if library is not None else "other"


def part_of(package: str) -> str:
    """Which of PARTS a package is dealt to."""
    digest = hashlib.blake2b(package.encode(), digest_size=8).digest()
    return PARTS[int.from_bytes(digest, "big") % len(PARTS)]


def code(limit: int | None = None) -> dict[tuple[str, str], list[str]]:
    """(part, kind) → texts, kind being `python` or `c`; limit: read only so many files."""
    found: dict[tuple[str, str], list[str]] = {}
    taken: Counter[tuple[str, str]] = Counter()
    seen: set[bytes] = set()
    for path in source_files(tuple(KINDS))[:limit]:
        kind, package = KINDS[path.suffix], package_of(path)
        if taken[kind, package] > MOST:
            continue
        for text in read_sources([path]):
            digest = hashlib.blake2b(text, digest_size=16).digest()
            if digest in seen or b"<|" in text:  # special tokens are treated differently on purpose
                continue
            seen.add(digest)
            taken[kind, package] += len(text)
            found.setdefault((part_of(package), kind), []).append(text.decode())
    return found


def size(texts: Iterable[str]) -> int:
    """Bytes of the texts."""
    return sum(len(text.encode()) for text in texts)
