"""Documents: a project as training text, its files in order, each under a comment with its path.

    # src/flask/signals.py
    from blinker import Namespace
    …

A project within the budget is one document; a larger one is cut into parts that hold what their
files need (`order.py`). The text of each file is a span of kind `file`, so that fill-in-the-middle
can choose one, and nodes of the syntax trees are spans of their own kinds if they were asked for.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from curation.document import derived_id, document_id, make_batch
from curation.project.files import ProjectFile, RawProject, SetAside, keep
from curation.project.holes import find_holes
from curation.project.imports import LANGUAGES, Facts, ParseProblem, find_facts, is_tsx, parse
from curation.project.licences import is_allowed, project_licence
from curation.project.order import cut_parts, project_order, random_order
from curation.project.resolve import resolve

_HASH = (
    "python ruby shell perl r yaml toml makefile cmake dockerfile julia elixir nim tcl powershell "
    "graphql starlark nix"
)
_COMMENTS = {
    language: tuple(around.split("|"))
    for around, languages in {
        "# |": _HASH,
        "-- |": "sql haskell lua elm ada vhdl",
        "; |": "clojure lisp scheme racket assembly",
        "% |": "tex matlab erlang",
        "<!-- | -->": "html xml markdown vue svelte",
        "/* | */": "css",
        "(* | *)": "ocaml coq",
        ".. |": "restructuredtext",
        "! |": "fortran",
        "|": "text json",
    }.items()
    for language in languages.split()
}  # all others: //


@dataclass(frozen=True)
class ProjectSettings:
    """How projects become documents.

    order: `dependencies`, or `random` for comparison, by `seed`. max_bytes: of a document.
    repeat: the share of a document that files of an earlier one, which its own need, may take.
    licenses: SPDX identifiers that may be used; None for all, unknown ones too. holes: give the
    nodes that make natural gaps as spans (`holes.py`), for fill-in-the-middle by syntax.
    """

    order: str = "dependencies"
    max_bytes: int = 1 << 18
    repeat: float = 0.25
    licenses: tuple[str, ...] | None = None
    holes: bool = True
    seed: int = 0
    source: str = "projects"

    def __post_init__(self) -> None:
        if self.order not in ("dependencies", "random"):
            raise ValueError(f"order {self.order!r}: expected dependencies or random")
        if self.max_bytes < 1:
            raise ValueError(f"max_bytes {self.max_bytes}: expected at least 1")
        if not 0 <= self.repeat < 1:
            raise ValueError(f"repeat {self.repeat}: expected from 0 to less than 1")


@dataclass(frozen=True)
class Project:
    """A project that was read: its files that count, the rest with reasons, edges and order."""

    name: str
    license: str | None
    files: dict[str, ProjectFile]
    aside: list[SetAside]
    facts: dict[str, Facts]
    holes: dict[str, list[tuple[int, int, str]]]
    edges: dict[str, list[str]]
    parts: list[list[str]]

    @property
    def order(self) -> list[str]:
        return [path for part in self.parts for path in part]

    def statistics(self) -> dict:
        """JSON-able: files, bytes, edges, imports, how far the order holds, reasons set aside."""
        place = {path: at for at, path in enumerate(self.order)}
        edges = [(a, b) for a, needed in self.edges.items() for b in needed]
        return {
            "files": len(self.files),
            "bytes": sum(len(file.data) for file in self.files.values()),
            "imports": sum(len(facts.imports) for facts in self.facts.values()),
            "edges": len(edges),
            "edges_in_order": sum(place[b] < place[a] for a, b in edges),
            "components": len(self.parts),
            "aside": dict(sorted(Counter(file.reason for file in self.aside).items())),
            "languages": dict(sorted(Counter(f.language for f in self.files.values()).items())),
            "not_parsed": sum(bool(facts.problem) for facts in self.facts.values()),
        }


def read_project(raw: RawProject, settings: ProjectSettings) -> Project:
    """Read a project's files, find what they need, and put them in order."""
    files, aside, licences = {}, [], []
    for path, data, reason in raw.files:
        if data is None:
            aside.append(SetAside(path, reason, 0))
            continue
        licences.append((path, data))
        kept = keep(path, data)
        if isinstance(kept, SetAside):
            aside.append(kept)
        else:
            files[path] = kept
    facts, holes = {}, {}
    for path, file in files.items():
        facts[path], holes[path] = _look_into(file, settings.holes)
    known = {p: (f.language, f.data) for p, f in files.items()}
    edges = resolve(known, facts, (file.path for file in aside))
    if settings.order == "random":
        parts = [random_order(sorted(files), settings.seed, raw.name)] if files else []
    else:
        parts = project_order(edges)
    return Project(raw.name, project_licence(licences), files, aside, facts, holes, edges, parts)


def _look_into(file: ProjectFile, with_holes: bool) -> tuple[Facts, list[tuple[int, int, str]]]:
    facts = find_facts(file.data, file.language, file.path)
    if not with_holes or file.language not in LANGUAGES:
        return facts, []
    try:
        tree = parse(file.data, file.language, file.path)
    except ParseProblem as problem:
        return replace(facts, problem=str(problem)), []
    return facts, find_holes(tree, file.data, file.language, is_tsx(file.language, file.path))


def heading(path: str, language: str) -> str:
    """The line above a file: its path as a comment of its language."""
    before, after = _COMMENTS.get(language, ("// ", ""))
    return f"{before}{path}{after}\n"


def documents(project: Project, settings: ProjectSettings) -> Iterator[dict]:
    """Give the rows of a project: one for each part, in order.

    None for a project whose licence is not allowed. A file that alone exceeds the budget is cut
    at line ends into rows of its own.
    """
    if settings.licenses is not None and not is_allowed(project.license, settings.licenses):
        return
    texts = {path: _text(file) for path, file in project.files.items()}
    sizes = {
        path: len(f"{heading(path, project.files[path].language)}{text}\n".encode())
        for path, text in texts.items()
    }
    parts = cut_parts(project.order, project.edges, sizes, settings.max_bytes, settings.repeat)
    ids = {
        path: document_id(settings.source, f"{project.name}/{path}", texts[path]) for path in texts
    }
    pieces = [piece for part in parts for piece in _pieces(part, texts, sizes, settings.max_bytes)]
    for number, piece in enumerate(pieces):
        yield _row(project, settings, number, len(pieces), piece, ids)


def _text(file: ProjectFile) -> str:
    text = file.data.decode()
    return text if text.endswith("\n") else text + "\n"


def _pieces(
    part: list[str], texts: dict[str, str], sizes: dict[str, int], budget: int
) -> Iterator[list[tuple[str, str, int]]]:
    """A part as (path, text, its first byte in the file); a file that is too large in pieces."""
    if len(part) > 1 or sizes[part[0]] <= budget:
        yield [(path, texts[path], 0) for path in part]
        return
    held, size, first = [], 0, 0
    for line in texts[part[0]].split("\n")[:-1]:
        line += "\n"
        if held and size + len(line.encode()) > budget:
            yield [(part[0], "".join(held), first)]
            held, first, size = [], first + size, 0
        held.append(line)
        size += len(line.encode())
    yield [(part[0], "".join(held), first)]


def _row(
    project: Project, settings: ProjectSettings, number: int, total: int,
    piece: list[tuple[str, str, int]], ids: dict[str, str],
) -> dict:  # fmt: skip
    text, spans, at = [], [], 0
    for path, content, first in piece:
        head = heading(path, project.files[path].language)
        start = at + len(head.encode())
        end = start + len(content.encode())
        spans.append({"start": start, "end": end, "kind": "file", "path": path})
        past = first + len(content.encode())
        spans += [
            {"start": start + a - first, "end": start + b - first, "kind": kind, "path": path}
            for a, b, kind in project.holes[path]
            if first <= a and b <= past
        ]
        text += [head, content, "\n"]
        at = end + 1
    languages = Counter()
    for path, content, _ in piece:
        language = project.files[path].language
        # A long README does not make a project one of markdown.
        languages[language] += len(content) * (1 if language in LANGUAGES else 0.01)
    parents = [ids[path] for path, _, _ in piece]
    about = {"project": project.name, "part": number, "parts": total, "files": len(piece),
             "order": settings.order}  # fmt: skip
    return {
        "id": derived_id(parents, number),
        "text": "".join(text),
        "source": settings.source,
        "domain": "code",
        "language": min(languages, key=lambda name: (-languages[name], name)),
        "uri": project.name,
        "license": project.license,
        "metadata": json.dumps(about, ensure_ascii=False, sort_keys=True),
        "parents": parents,
        "spans": spans,
    }


def batches(rows: Iterable[dict], batch_bytes: int = 4 << 20) -> Iterator[pa.RecordBatch]:
    """Put rows together to record batches of SCHEMA, of about this many bytes of text."""
    held, size = [], 0
    for row in rows:
        held.append(row)
        size += len(row["text"])
        if size >= batch_bytes:
            yield make_batch(held)
            held, size = [], 0
    if held:
        yield make_batch(held)
