"""Which files a source has: of a folder, a saved dataset, an address.

The list is in the order of the names' bytes, whatever the file system says. Names that begin with a
dot are left out; links that lead out of the source's folder are in the list, as problems. Beside
tables, a README is about the data and is not data; a project of code with tables among its files
is its text.
"""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from curation import formats, remote
from curation.source import Source, SourceError


class Found(NamedTuple):
    """A file of a source: name relative to it, format, bytes, why it cannot be used, version."""

    name: str
    format: str
    size: int
    problem: str | None
    version: str = ""


def find_files(source: Source) -> tuple[bool, list[Found]]:
    """List the files of a source, and whether its path is one file itself.

    Raises SourceError if there is nothing there, or it cannot be listed.
    """
    if remote.is_remote(source.path):
        return _remote_files(source)
    root = Path(source.path)
    if not root.exists():
        raise SourceError(f"{source.path}: no such file or folder")
    base = root.parent if root.is_file() else root
    found = []
    for name, form in _local_files(root, source):
        size, problem = inspect(base / name, base)
        found.append(Found(name, form, size, problem))
    return root.is_file(), found


def _remote_files(source: Source) -> tuple[bool, list[Found]]:
    try:
        remote.check(source.path, source.storage_options)
    except ValueError as error:
        raise SourceError(f"{remote.shown(source.path)}: {error}") from None
    try:
        alone, entries = remote.listing(source.path, source.storage_options)
    except OSError as error:
        raise SourceError(f"{source.path}: cannot be listed: {error}") from None
    sizes = {entry.name: entry for entry in entries}
    if alone:
        wanted = _one_file(entries[0].name, source)
    elif _is_dataset(source, lambda mark: mark in sizes):
        read = lambda name: source.file(name, False).read_bytes()  # noqa: E731
        wanted = _dataset_files(source.path, source_names=list(sizes), read=read)
    else:
        forms = [(name, _format(name, source)) for name in sizes]
        wanted = _data_only([(name, form) for name, form in forms if form], source)
    found = []
    for name, form in wanted:
        entry = sizes.get(name)
        problem = None if entry and entry.size else "empty file" if entry else "not there"
        # A server may not tell the size of a file before it is asked for.
        if problem == "empty file" and source.path.startswith("http"):
            problem = None
        found.append(
            Found(name, form, entry.size if entry else 0, problem, entry.version if entry else "")
        )
    return alone, found


def _format(name: str, source: Source) -> str | None:
    form = formats.format_of(name.rpartition("/")[2], source.domain, source.format)
    return form if source.format in (None, form) else None


def _one_file(name: str, source: Source) -> list[tuple[str, str]]:
    form = source.format or formats.format_of(name, source.domain, source.format, named=True)
    return [(name, form)] if form else []


def _is_dataset(source: Source, there: Callable[[str], bool]) -> bool:
    marked = there("dataset_dict.json") or there("state.json")
    return source.format == "datasets" or (source.format is None and marked)


def _local_files(root: Path, source: Source) -> list[tuple[str, str]]:
    """List (path relative to the source, format), sorted by the path's bytes."""
    if root.is_file():
        return _one_file(root.name, source)
    if _is_dataset(source, lambda mark: (root / mark).is_file()):
        names = [p.relative_to(root).as_posix() for p in root.glob("*/state.json")]
        marks = [m for m in ("dataset_dict.json", "state.json") if (root / m).is_file()]
        return _dataset_files(str(root), [*names, *marks], lambda n: (root / n).read_bytes())
    wanted: list[tuple[str, str]] = []
    for folder, subfolders, names in os.walk(root):
        here = Path(folder)
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            form = _format(name, source)
            if form and not name.startswith("."):
                wanted.append(((here / name).relative_to(root).as_posix(), form))
        # A linked folder is inside the source, and read where it is, or outside, and reported.
        for name in subfolders:
            if (here / name).is_symlink() and not _inside(here / name, root):
                form = source.format or "text"
                wanted.append(((here / name).relative_to(root).as_posix(), form))
    wanted.sort(key=lambda item: os.fsencode(item[0]))
    return _data_only(wanted, source)


def _data_only(wanted: list[tuple[str, str]], source: Source) -> list[tuple[str, str]]:
    """Leave out what only lies beside the data."""
    tables = [(name, form) for name, form in wanted if form != "text"]
    if source.format is not None or not tables or len(tables) == len(wanted):
        return wanted
    if source.domain == "code":
        return [(name, form) for name, form in wanted if form == "text"]
    return [(name, form) for name, form in wanted if form != "text" or not _is_about(name)]


def _is_about(name: str) -> bool:
    """Whether a text file describes the files beside it, going by its name."""
    stem = name.rpartition("/")[2].partition(".")[0].lower()
    return stem in ("readme", "license", "licence", "notice", "changelog", "citation")


def _dataset_files(
    root: str, source_names: list[str], read: Callable[[str], bytes]
) -> list[tuple[str, str]]:
    """List the Arrow files of a saved dataset, or of each split of a saved DatasetDict."""
    folders = [""]
    if "dataset_dict.json" in source_names:
        paths = [PurePosixPath(name) for name in source_names]
        states = [p for p in paths if p.name == "state.json" and len(p.parts) == 2]
        folders = sorted((f"{p.parent}/" for p in states), key=os.fsencode)
    files = []
    for folder in folders:
        # state.json tells the data from the cache files that map() leaves beside them.
        try:
            state = json.loads(read(f"{folder}state.json"))
            names = [Path(entry["filename"]).name for entry in state["_data_files"]]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SourceError(
                f"{root}/{folder}state.json: not a dataset's state ({error}); "
                "expected a folder written by save_to_disk"
            ) from None
        files += [(f"{folder}{name}", "datasets") for name in names]
    return files


def _inside(path: Path, base: Path) -> bool:
    return path.resolve().is_relative_to(base.resolve())


def inspect(path: Path, base: Path) -> tuple[int, str | None]:
    """Give (size, None), or (0, why the file cannot be used)."""
    if path.is_symlink() and not _inside(path, base):
        return 0, "a symbolic link that leaves the source's folder; not followed"
    try:
        status = path.stat()
    except OSError as error:
        return 0, f"cannot be opened: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):
        return 0, "not a regular file"
    return status.st_size, None if status.st_size else "empty file"
