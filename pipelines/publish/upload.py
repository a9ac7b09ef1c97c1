"""Bring a published directory somewhere else: a folder, S3 or the Hugging Face Hub.

Data files go first, then the card and Croissant, the manifest last: what has a manifest is whole.
What the far side already has, by size and checksum, is not sent again; so a second run sends
nothing, and one that was killed, however hard, is gone on with by the same command. Each file is
checked against the manifest as it is read, and again after it was sent, by the size and checksum
that the far side reports.

Files of the version that was there before, by its own manifest, are deleted at the end, because the
card's globs would read them. Other people's files in the same folders would be read too: they are
never touched, and the upload is refused, unless `replace` says that they may go.
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from pipelines.files import TEMPORARY, atomic, checksum
from pipelines.publish.manifest import NAME, ManifestError, entry, parse_manifest, read_manifest

Told = Callable[[int], Any]  # is told of bytes as they are done


class UploadError(OSError):
    """An upload that cannot go on; the message is one line that says where, why and what to do."""


class Target(Protocol):
    """A far side. All its methods raise UploadError."""

    where: str

    def listing(self) -> dict[str, int]:
        """Bytes of each file that is there, by path; creates the place if need be."""

    def read(self, path: str) -> bytes | None:
        """The content of a small file; None if it is not there."""

    def holds(self, root: Path, files: Sequence[dict]) -> set[str]:
        """Which of these entries, that are there in their sizes, are there with their checksums."""

    def put(self, root: Path, files: Sequence[dict], told: Told) -> None:
        """Send files and check each."""

    def finish(self, root: Path, files: Sequence[dict], stale: Sequence[str], told: Told) -> None:
        """Send the last files, in order, and delete those that are no longer wanted."""


@dataclass(frozen=True)
class Sent:
    """What an upload did: files and bytes sent, files that were there, files deleted."""

    files: int
    bytes: int
    kept: int
    deleted: int


def target_of(address: str, *, threads: int = 4, private: bool = False) -> Target:
    """The far side of an address. Raises ValueError for one that cannot be published to."""
    scheme = address.partition("://")[0].lower() if "://" in address else ""
    if scheme == "s3":
        from pipelines.publish.s3 import S3

        parts = urlsplit(address)
        return S3(parts.netloc, parts.path.strip("/"), threads)
    if scheme == "hf":
        from pipelines.publish.hub import Hub

        kind, _, name = address[5:].strip("/").partition("/")
        if kind != "datasets" or name.count("/") != 1:
            raise ValueError(f"{address}: expected hf://datasets/OWNER/NAME")
        return Hub(name, private, threads)
    if scheme:
        raise ValueError(
            f"{address}: cannot be published to; expected a folder, s3://BUCKET/PREFIX or "
            "hf://datasets/OWNER/NAME"
        )
    return Folder(Path(address), threads)


def upload(
    root: Path,
    target: Target,
    *,
    replace: bool = False,
    progress: Callable[[int, int], Any] = lambda done, total: None,
) -> Sent:
    """Bring the published directory `root` to a target.

    progress: is told bytes done and in all. Raises ManifestError when `root` is not whole,
    UploadError when the far side will not have it.
    """
    manifest = read_manifest(root)
    files = [*manifest["files"], entry(root, root / NAME, None)]
    for file in files:
        path = root / file["path"]
        if not path.is_file() or path.stat().st_size != file["bytes"]:
            raise ManifestError(
                f"{path}: missing or of another size than the manifest says; `gristmill verify "
                f"{root}` tells more"
            )
    there = target.listing()
    stale = _no_longer_wanted(target, there, files, replace)
    right = target.holds(root, [f for f in files if there.get(f["path"]) == f["bytes"]])
    todo = [file for file in files if file["path"] not in right]
    last = [f for f in todo if "/" not in f["path"]]
    last.sort(key=lambda file: file["path"] == NAME)
    data = [f for f in todo if "/" in f["path"]]
    done, total = 0, sum(file["bytes"] for file in todo)

    def told(n: int) -> None:
        nonlocal done
        done += n
        progress(done, total)

    if data:
        target.put(root, data, told)
    if last or stale:
        target.finish(root, last, stale, told)
    return Sent(len(todo), total, len(files) - len(todo), len(stale))


def _no_longer_wanted(
    target: Target, there: dict[str, int], files: list[dict], replace: bool
) -> list[str]:
    """Files at the far side that would be read with ours and are none of them."""
    wanted = {file["path"] for file in files}
    folders = {path.partition("/")[0] + "/" for path in wanted if "/" in path}
    others = sorted(
        path for path in there if path not in wanted and path.startswith(tuple(folders))
    )
    if not others or replace:
        return others
    before: set[str] = set()
    data = target.read(NAME) if NAME in there else None
    if data is not None:
        try:
            before = {file["path"] for file in parse_manifest(data, NAME)["files"]}
        except ManifestError:
            before = set()
    strangers = [path for path in others if path not in before]
    if strangers:
        raise UploadError(
            f"{target.where}: {strangers[0]}"
            + (f" and {len(strangers) - 1:,} other files" if len(strangers) > 1 else "")
            + " would be read with the dataset and are no part of it, nor of the version before: "
            "choose another place, remove them, or let them be deleted with --replace"
        )
    return others


def in_threads(work: Callable[[dict], Any], files: Iterable[dict], threads: int) -> None:
    """Do `work` for each file, `threads` at a time; the first failure stops what has not begun."""
    with ThreadPoolExecutor(threads) as pool:
        jobs = [pool.submit(work, file) for file in files]
        done, waiting = wait(jobs, return_when=FIRST_EXCEPTION)
        for job in waiting:
            job.cancel()
        for job in done:
            job.result()


def changed(path: Path) -> UploadError:
    """The error of a file that is no longer what was published."""
    return UploadError(
        f"{path}: not what the manifest says; it was changed or damaged after it was published. "
        "`gristmill verify` finds all such files; publish again"
    )


class Folder:
    """A folder, perhaps on another disk or a network's. Files are renamed into place when whole."""

    def __init__(self, path: Path, threads: int) -> None:
        """path: is made if it is not there."""
        self.where, self._path, self._threads = str(path), path, threads

    def _error(self, error: OSError, path: Path) -> UploadError:
        return UploadError(f"{path}: cannot be written: {error.strerror}; choose another place or "
                           "mend this one, then run the same command again")  # fmt: skip

    def listing(self) -> dict[str, int]:
        """See `Target`."""
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            found = (p for p in self._path.rglob("*") if p.is_file() and p.suffix != TEMPORARY)
            return {p.relative_to(self._path).as_posix(): p.stat().st_size for p in found}
        except OSError as error:
            raise self._error(error, self._path) from None

    def read(self, path: str) -> bytes | None:
        """See `Target`."""
        file = self._path / path
        return file.read_bytes() if file.is_file() else None

    def holds(self, root: Path, files: Sequence[dict]) -> set[str]:
        """See `Target`; reads the files."""
        with ThreadPoolExecutor(self._threads) as pool:
            sums = list(pool.map(lambda f: checksum(self._path / f["path"]), files))
        return {f["path"] for f, found in zip(files, sums, strict=True) if f["xxh3"] == found}

    def put(self, root: Path, files: Sequence[dict], told: Told) -> None:
        """See `Target`."""
        need, free = sum(file["bytes"] for file in files), shutil.disk_usage(self._path).free
        if need > free:
            raise UploadError(
                f"{self._path}: {need / 1e9:.2f} GB to write, {free / 1e9:.2f} GB free; choose "
                "another place or make room, then run the same command again"
            )
        in_threads(lambda file: self._copy(root, file, told), files, self._threads)

    def finish(self, root: Path, files: Sequence[dict], stale: Sequence[str], told: Told) -> None:
        """See `Target`."""
        for path in stale:
            (self._path / path).unlink(missing_ok=True)
        for file in files:
            self._copy(root, file, told)

    def _copy(self, root: Path, file: dict, told: Told) -> None:
        source, path = root / file["path"], self._path / file["path"]
        try:
            for left in path.parent.glob(f".{path.name}.*{TEMPORARY}"):  # of a run that was killed
                left.unlink(missing_ok=True)
            with atomic(path) as temporary:
                with source.open("rb") as read, temporary.open("wb") as write:
                    while chunk := read.read(4 << 20):
                        write.write(chunk)
                        told(len(chunk))
                found = checksum(temporary)
                if found != file["xxh3"]:
                    if checksum(source) != file["xxh3"]:
                        raise changed(source)
                    raise UploadError(f"{path}: reads back with other bytes than were written")
        except UploadError:
            raise
        except OSError as error:
            raise self._error(error, path) from None
