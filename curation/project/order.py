"""Order: the files of a project so that each stands behind those it needs, as far as that can be.

DeepSeek-Coder's sort (Guo et al. 2024, algorithm 1): within each connected part of the graph, take
again and again the file for which fewest unplaced files are needed. In a graph without cycles that
is a topological order. Where there are cycles it may put a file before what it needs though no
cycle holds the two, so here the knots (strongly connected components) are ordered first and the
rule is for the inside of each: a file stands before what it needs only where both need each other.
Ties go by path, and README and other documents come first, tests after what they test.

A project that is larger than the budget is cut into parts along the order, so most of what a file
needs stands before it in the same part; what stands in an earlier one is repeated as far as there
is room for it. Only a file that alone exceeds the budget is cut.
"""

import heapq
from collections.abc import Mapping, Sequence
from typing import Any

from xxhash import xxh3_64_intdigest

_FIRST = ("readme", "changelog", "contributing", "license", "licence", "notice")


def components(edges: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Split into connected parts, each sorted by path, the parts by their first path."""
    neighbours: dict[str, set[str]] = {path: set() for path in edges}
    for path, needed in edges.items():
        for other in needed:
            neighbours[path].add(other)
            neighbours[other].add(path)
    parts, seen = [], set()
    for start in sorted(edges):
        if start in seen:
            continue
        part, waiting = [], [start]
        seen.add(start)
        while waiting:
            part.append(path := waiting.pop())
            fresh = neighbours[path] - seen
            seen |= fresh
            waiting += fresh
        parts.append(sorted(part))
    return parts


def is_test(path: str) -> bool:
    """Tell a test by its folder or name, as the languages' test runners do."""
    *folders, name = path.lower().split("/")
    stem = name.split(".")[0]
    return (
        any(
            folder in ("test", "tests", "spec", "specs", "__tests__", "testing")
            for folder in folders
        )
        or stem.startswith("test_")
        or stem.endswith(("_test", "_spec"))
        or any(part in ("test", "spec") for part in name.split(".")[1:-1])
    )


def is_document(path: str) -> bool:
    """Tell a README and its like by the name."""
    return path.rpartition("/")[2].lower().split(".")[0] in _FIRST


def dependency_order(edges: Mapping[str, Sequence[str]]) -> list[str]:
    """Order one connected part: O((files + edges) log files).

    edges: path -> the paths that it needs, all of them keys as well.
    """
    knots = _knots(edges)
    knot_of = {path: number for number, knot in enumerate(knots) for path in knot}
    outside: dict[int, set[int]] = {number: set() for number in range(len(knots))}
    for path, needed in edges.items():
        outside[knot_of[path]] |= {knot_of[other] for other in needed} - {knot_of[path]}
    first = {number: (all(map(is_test, knot)), min(knot)) for number, knot in enumerate(knots)}
    order = []
    for number in _least_missing(outside, first):
        knot = set(knots[number])
        inside = {path: {p for p in edges[path] if p in knot} - {path} for path in knot}
        order += _least_missing(inside, {path: (is_test(path), path) for path in knot})
    return order


def _least_missing(needs: Mapping[Any, set], rank: Mapping[Any, tuple]) -> list:
    """Take again and again the node of which the fewest needs are unplaced, ties by rank."""
    missing = {node: len(needed) for node, needed in needs.items()}
    users: dict[Any, list] = {node: [] for node in needs}
    for node, needed in needs.items():
        for other in needed:
            users[other].append(node)
    queue = [(missing[node], rank[node], node) for node in needs]
    heapq.heapify(queue)
    order, placed = [], set()
    while queue:
        number, _, node = heapq.heappop(queue)
        if node in placed or number != missing[node]:
            continue  # an older entry: the node has moved up since
        placed.add(node)
        order.append(node)
        for user in users[node]:
            missing[user] -= 1
            heapq.heappush(queue, (missing[user], rank[user], user))
    return order


def _knots(edges: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The strongly connected components (Tarjan 1972), without recursion."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    open_paths: list[str] = []
    is_open: set[str] = set()
    knots = []
    for start in sorted(edges):
        if start in number:
            continue
        trail = [(start, iter(edges[start]))]
        number[start] = low[start] = len(number)
        open_paths.append(start)
        is_open.add(start)
        while trail:
            path, rest = trail[-1]
            for other in rest:
                if other not in number:
                    number[other] = low[other] = len(number)
                    open_paths.append(other)
                    is_open.add(other)
                    trail.append((other, iter(edges[other])))
                    break
                if other in is_open:
                    low[path] = min(low[path], number[other])
            else:
                trail.pop()
                if trail:
                    low[trail[-1][0]] = min(low[trail[-1][0]], low[path])
                if low[path] == number[path]:
                    knot = [open_paths.pop()]
                    while knot[-1] != path:
                        knot.append(open_paths.pop())
                    is_open.difference_update(knot)
                    knots.append(knot)
    return knots


def random_order(paths: Sequence[str], seed: int, project: str) -> list[str]:
    """Order by a hash of seed, project and path: DeepSeek-Coder-V2 left the order to chance."""
    return sorted(paths, key=lambda path: (xxh3_64_intdigest(f"{project}\0{path}", seed), path))


def project_order(edges: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Order a whole project: its connected parts, each in dependency order.

    READMEs and their like come first in a part of their own, then the parts of several files, then
    files that know nothing of each other, then tests that are alone.
    """
    documents = sorted(
        (path for path in edges if is_document(path)),
        key=lambda path: (path.count("/"), _FIRST.index(_stem(path)), path),
    )
    rest = {
        path: [other for other in needed if not is_document(other)]
        for path, needed in edges.items()
        if not is_document(path)
    }
    parts = [dependency_order({path: rest[path] for path in part}) for part in components(rest)]
    parts.sort(key=lambda part: (all(map(is_test, part)), len(part) == 1, min(part)))
    return [*([documents] if documents else []), *parts]


def _stem(path: str) -> str:
    return path.rpartition("/")[2].lower().split(".")[0]


def cut_parts(
    order: Sequence[str],
    edges: Mapping[str, Sequence[str]],
    sizes: Mapping[str, int],
    budget: int,
    repeat: float = 0.25,
) -> list[list[str]]:
    """Cut an order into parts of at most `budget`, each with what its files need, in order.

    What stands in an earlier part already is repeated, the nearest first, in up to the share
    `repeat` of the budget: what every file of a large project needs would else fill every part. A
    file larger than the budget is a part of its own. Every file stands in at least one part.
    """
    place = {path: at for at, path in enumerate(order)}
    parts: list[list[str]] = []
    placed: set[str] = set()
    current: set[str] = set()
    used = again = 0
    for path in order:
        if current and used + sizes[path] > budget:
            parts.append(sorted(current, key=place.__getitem__))
            current, used, again = set(), 0, 0
        current.add(path)
        placed.add(path)
        used += sizes[path]
        for other in _needs(path, edges):
            size, earlier = sizes[other], other in placed and other not in current
            if earlier and again + size <= repeat * budget and used + size <= budget:
                current.add(other)
                used, again = used + size, again + size
    if current:
        parts.append(sorted(current, key=place.__getitem__))
    return parts


def _needs(path: str, edges: Mapping[str, Sequence[str]], most: int = 64) -> list[str]:
    """What a file needs, itself first, then what that needs: at most some."""
    found, known = [path], {path}
    for one in found:  # grows while it is gone through
        if len(found) > most:
            break
        fresh = [other for other in edges[one] if other not in known]
        found += fresh
        known.update(fresh)
    return found[1:]
