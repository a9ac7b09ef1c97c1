"""Files: which files a project has, and which of them are worth training on.

A project is a folder (also a git work tree), an archive (`.tar`, `.tar.gz|bz2|xz`, `.zip`, `.whl`),
or all rows of one `repo` in a Parquet table with the columns `repo`, `path` and `content`. Archives
are never unpacked to disk: members are read one by one, so a name that leads elsewhere leads
nowhere, links are not followed, and what they may expand to is limited.

Files that teach nothing are set aside with a reason (`set_aside`): by path (vendored, lock files,
data), by size, by content (binary, minified, generated). What is left is text: UTF-8, without a
byte-order mark, lines ended by a line feed.
"""

import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import pyarrow.parquet as pq

from curation.formats import CODE_NAMES, code_language
from curation.project.licences import is_licence_file

MAX_FILES = 100_000
MAX_FILE_BYTES = 1 << 20
MAX_PROJECT_BYTES = 1 << 30

# What Python's archive readers are known to raise for damaged ones.
_BROKEN = (
    OSError, EOFError, ValueError, RuntimeError, LookupError, ArithmeticError, struct.error,
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError,
)  # fmt: skip

ARCHIVES = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".zip", ".whl")


@dataclass(frozen=True)
class ProjectFile:
    """A file that counts: its path from the project's root, language, and text as UTF-8."""

    path: str
    language: str
    data: bytes


@dataclass(frozen=True)
class SetAside:
    """A file that does not count, and why."""

    path: str
    reason: str
    bytes: int


@dataclass(frozen=True)
class RawProject:
    """A project as it lies there: `files` gives (path, content, ""), or (path, None, why not)."""

    name: str
    files: Iterator[tuple[str, bytes | None, str]]


_path = itemgetter(0)


class ProjectError(ValueError):
    """A project that cannot be read; the message begins with its path."""


def find_projects(source: Path, each: bool = False) -> Iterator[RawProject]:
    """Find the projects of a source, in the order of their names.

    A folder is one project, or with `each` every folder and archive in it is one; an archive is
    one; a Parquet file has one for each run of rows of the same `repo`. Raises ProjectError for a
    source that is none of these, or is damaged.
    """
    if not source.exists():
        raise ProjectError(f"{source}: no such file or folder")
    if source.is_dir():
        if not each:
            yield RawProject(_valid(source.resolve().name), _of_folder(source))
            return
        for place in places_of(source):
            yield from find_projects(place)
    elif source.name.lower().endswith(".parquet"):
        yield from _of_table(source)
    elif source.name.lower().endswith(ARCHIVES):
        name = re.sub(r"\.(tgz|zip|whl|tar(\.\w+)?)$", "", source.name, flags=re.IGNORECASE)
        yield RawProject(_valid(name), _of_archive(source))
    else:
        raise ProjectError(
            f"{source}: expected a folder, an archive ({', '.join(ARCHIVES)}) or a Parquet file"
        )


def places_of(folder: Path) -> list[Path]:
    """The folders, archives and tables in a folder of projects, in the order of their names."""
    return [
        child
        for child in sorted(folder.iterdir(), key=lambda path: os.fsencode(path.name))
        if (child.is_dir() or child.name.lower().endswith((*ARCHIVES, ".parquet")))
        and not child.is_symlink()
        and not child.name.startswith(".")
    ]


def _valid(name: str) -> str:
    """A name without the half characters by which Python writes what is not UTF-8."""
    return name.encode(errors="replace").decode()


def _of_folder(root: Path) -> Iterator[tuple[str, bytes | None, str]]:
    count = total = 0
    locked: list[OSError] = []
    for folder, folders, names in os.walk(root, onerror=locked.append):
        # A link may lead out, or round in a circle; what it leads to inside is met where it is.
        folders[:] = sorted(
            n for n in folders if n != ".git" and not (Path(folder) / n).is_symlink()
        )
        for name in sorted(names):
            path = Path(folder) / name
            inside = _valid(path.relative_to(root).as_posix())
            try:
                state = path.lstat()
            except OSError:  # gone since, or in a folder that may be listed but not entered
                yield inside, None, "unreadable"
                continue
            if not stat.S_ISREG(state.st_mode):
                continue
            if (count := count + 1) > MAX_FILES:
                raise ProjectError(f"{root}: more than {MAX_FILES:,} files")
            found = _read(inside, state.st_size, path.read_bytes)
            if (total := total + len(found[1] or b"")) > MAX_PROJECT_BYTES:
                raise ProjectError(f"{root}: more than {MAX_PROJECT_BYTES:,} bytes")
            yield found
    for error in locked:
        yield _valid(os.path.relpath(error.filename, root)), None, "unreadable"


def _read(path: str, size: int, read) -> tuple[str, bytes | None, str]:
    """(path, content, "") or (path, None, why it was not read)."""
    if reason := reason_by_path(path):
        return path, None, reason
    if size > MAX_FILE_BYTES:
        return path, None, "too_large"
    try:
        return path, read(), ""
    except _BROKEN:
        return path, None, "unreadable"


def _of_archive(source: Path) -> Iterator[tuple[str, bytes | None, str]]:
    try:
        members = _zip(source) if source.suffix.lower() in (".zip", ".whl") else _tar(source)
        found, total = [], 0
        for path, data, reason in members:
            if len(found) == MAX_FILES:
                raise ProjectError(f"{source}: more than {MAX_FILES:,} files")
            total += len(data or b"")
            if total > MAX_PROJECT_BYTES:
                raise ProjectError(f"{source}: expands to more than {MAX_PROJECT_BYTES:,} bytes")
            found.append((path, data, reason))
    except _BROKEN as error:
        if isinstance(error, ProjectError):
            raise
        raise ProjectError(f"{source}: cannot be read as an archive: {error}") from None
    # flask-3.1.0/src/…: the one folder that all lies in is the archive's, not the project's.
    tops = {path.split("/")[0] for path, _, _ in found}
    top = f"{tops.pop()}/" if len(tops) == 1 and all("/" in path for path, _, _ in found) else ""
    found.sort(key=_path)  # an archive may have a path twice; the last is what unpacking leaves
    yield from ((path.removeprefix(top), data, why) for path, data, why in found)


def _inside(name: str) -> str | None:
    """A member's path, with `/`; None for one that would lead out of the project."""
    path = _valid(name.replace("\\", "/").removeprefix("./"))
    parts = path.split("/")
    return None if not path or path.startswith("/") or ".." in parts or ":" in parts[0] else path


def _zip(source: Path) -> Iterator[tuple[str, bytes | None, str]]:
    with zipfile.ZipFile(source) as archive:
        for member in archive.infolist():
            path = _inside(member.filename)
            if path is None or member.is_dir():
                continue
            # The size in the directory may lie: read one byte more than is allowed.
            yield _limited(path, member.file_size, lambda m=member: archive.open(m))


def _tar(source: Path) -> Iterator[tuple[str, bytes | None, str]]:
    with tarfile.open(source) as archive:
        for member in archive:
            path = _inside(member.name)
            if path is not None and member.isreg():
                yield _limited(path, member.size, lambda m=member: archive.extractfile(m))


def _limited(path: str, size: int, opened) -> tuple[str, bytes | None, str]:
    def read() -> bytes:
        with opened() as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ValueError("larger than its entry says")
        return data

    return _read(path, size, read)


def _of_table(source: Path) -> Iterator[RawProject]:
    """One project for each run of rows with the same repo, a batch of rows in memory at a time."""
    with pq.ParquetFile(source) as file:
        missing = {"repo", "path", "content"} - set(file.schema_arrow.names)
        if missing:
            raise ProjectError(
                f"{source}: no column {', '.join(sorted(missing))}; expected repo, path, content"
            )
        name, held, total = None, [], 0
        for batch in file.iter_batches(batch_size=256, columns=["repo", "path", "content"]):
            for row in batch.to_pylist():
                if row["repo"] != name:
                    if held:
                        yield RawProject(str(name), iter(sorted(held, key=_path)))
                    name, held, total = row["repo"], [], 0
                content = row["content"]
                data = content.encode() if isinstance(content, str) else content or b""
                if not isinstance(data, bytes):
                    raise ProjectError(f"{source}: expected text or bytes as content")
                path = None if row["path"] is None else _inside(str(row["path"]))
                if path is None or name is None:
                    continue
                found = _read(path, len(data), lambda d=data: d)
                if (total := total + len(found[1] or b"")) > MAX_PROJECT_BYTES:
                    found = (path, None, "too_large")
                held.append(found)
        if held:
            yield RawProject(str(name), iter(sorted(held, key=_path)))


_VENDORED = {
    "node_modules", "bower_components", "vendor", "third_party", "third-party", "thirdparty",
    ".git", ".hg", ".svn", ".tox", ".venv", "venv",
    "site-packages", "dist-packages", "__pycache__", ".mypy_cache", ".idea", ".vscode",
    "Pods", "Carthage",
}  # fmt: skip
_BUILT = {"dist", "_build", ".next", "coverage", "htmlcov"}
_BUILT_AT_TOP = {"build", "target", "out"}
_LOCKS = {
    "package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "cargo.lock",
    "poetry.lock", "pipfile.lock", "uv.lock", "pdm.lock", "gemfile.lock", "composer.lock",
    "go.sum", "go.work.sum", "flake.lock", "mix.lock", "pubspec.lock", "podfile.lock",
    "gradle.lockfile", "bun.lockb", "deno.lock", "packages.lock.json",
}  # fmt: skip
_DATA = {
    ".csv", ".tsv", ".svg", ".ipynb", ".po", ".pot", ".mo", ".geojson", ".map", ".snap", ".log",
    ".jsonl", ".parquet", ".arrow", ".npy", ".npz", ".pkl", ".h5", ".patch", ".diff", ".srt",
}  # fmt: skip
_GENERATED_NAMES = re.compile(
    r"(_pb2(_grpc)?\.pyi?|\.pb\.(go|cc|h)|\.g\.(dart|cs)|\.designer\.cs|\.generated\.\w+"
    r"|_generated\.\w+|zz_generated\.\w+\.go|\.tab\.[ch]|lex\.yy\.c|parsetab\.py)$",
    re.IGNORECASE,
)
_GENERATED = re.compile(
    rb"@generated|do not (edit|modify)|(auto-?(matically)?[ -]?)generated (by|from|with|file)"
    rb"|^\W{0,40}generated by .{0,60}(compiler|protoc|bison|flex|swig|antlr|cython|thrift)",
    re.IGNORECASE | re.MULTILINE,
)

# Names that say what a file is where its suffix does not.
_NAMES = {
    **CODE_NAMES,
    "Gemfile": "ruby",
    "Rakefile": "ruby",
    "go.mod": "go_mod",
    "BUILD": "starlark",
}
_SHEBANG = re.compile(rb"#!\s*\S*?(?:env\s+(?:-S\s+)?)?(python|node|ruby|php|bash|sh|perl)[\d.]*\b")
_SHEBANGS = {"node": "javascript", "bash": "shell", "sh": "shell"}


def reason_by_path(path: str) -> str | None:
    """Why a file is set aside, as far as its path says it; None if it does not."""
    *folders, name = path.split("/")
    if any(folder in _VENDORED for folder in folders):
        return "vendored"
    if any(folder in _BUILT for folder in folders) or _BUILT_AT_TOP & set(folders[:1]):
        return "generated"
    if name.lower() in _LOCKS:
        return "lock"
    if Path(name).suffix.lower() in _DATA:
        return "data"
    if ".min." in name.lower() or name.endswith("-min.js"):
        return "minified"
    if _GENERATED_NAMES.search(name):
        return "generated"
    return None


def keep(path: str, data: bytes) -> ProjectFile | SetAside:
    """Judge one file by its content."""
    language = _NAMES.get(path.rpartition("/")[2]) or code_language(path)
    if language is None and (match := _SHEBANG.match(data)):
        language = _SHEBANGS.get(match[1].decode(), match[1].decode())
    text = to_text(data)
    if text is None:
        return SetAside(path, "binary", len(data))
    if language is None:
        language = "text" if is_about(path) else _by_content(text)
    if language is None:
        return SetAside(path, "unknown_language", len(data))
    if not text.strip():
        return SetAside(path, "empty", len(data))
    if is_licence_file(path):  # the same few texts everywhere; what they say is a column
        return SetAside(path, "licence", len(data))
    if _GENERATED.search(data[:2000]):
        return SetAside(path, "generated", len(data))
    if language == "json" and len(text) > 5000:  # DeepSeek-Coder's bound for JSON
        return SetAside(path, "data", len(data))
    lines = text.count("\n") + 1
    if len(text) > 5000 and len(text) / lines > 300 and language != "markdown":
        return SetAside(path, "minified", len(data))
    if path.endswith((".h", ".m")) and _IS_OBJECTIVE_C.search(text):
        language = "objective_c"
    elif language == "c" and path.endswith(".h") and _IS_CPP.search(text):
        language = "cpp"
    return ProjectFile(path, language, text.encode())


_IS_CPP = re.compile(
    r"^[ \t]*(template\s*<|namespace\s+\w|class\s+\w++[^;{]{0,200}+\{|using\s+\w|public:|private:)"
    r"|\bstd::|#include <(memory|string|vector|utility|map|functional|type_traits|cstd\w+)>",
    re.MULTILINE,
)


_IS_OBJECTIVE_C = re.compile(
    r"^[ \t]*(#import\s|@(interface|implementation|protocol|class)\b)", re.MULTILINE
)


def is_about(path: str) -> bool:
    """Whether a file without a suffix is a README, a licence or the like."""
    name = path.rpartition("/")[2].lower()
    return name in ("readme", "license", "licence", "copying", "notice", "authors", "changelog")


def _by_content(text: str) -> str | None:
    """The language of a file without a known suffix: headers of C++ libraries have none."""
    start = text[:4000]
    is_header = "#include" in start or "#ifndef" in start
    return "cpp" if is_header and _IS_CPP.search(text) else None


_COOKIE = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)", re.MULTILINE)


def to_text(data: bytes) -> str | None:
    """Decode a source file; None for what is no text.

    UTF-8, or what a byte-order mark or Python's coding cookie says, or Latin-1 where no byte is a
    control character. Line ends become line feeds.
    """
    encodings = ["utf-8-sig"]
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    elif b"\0" in data:
        return None
    elif match := _COOKIE.search(b"\n".join(data.split(b"\n", 2)[:2])):
        encodings.append(match[1].decode("ascii"))
    for encoding in (*encodings, "latin-1"):
        try:
            text = data.decode(encoding)
            text.encode()  # escapes that a cookie may ask for can give half a surrogate pair
        except (UnicodeError, LookupError):
            continue
        if encoding == "latin-1" and re.search("[\x00-\x08\x0e-\x1f\x7f-\x9f]", text):
            return None
        return text.replace("\r\n", "\n").replace("\r", "\n")
    return None
