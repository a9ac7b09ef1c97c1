"""Files that are elsewhere: S3, Google Cloud, Azure, the Hugging Face Hub, HTTP, through fsspec.

A `RemoteFile` has what the readers use of a `Path` (`name`, `suffix`, `open`, `size`), so that a
reader does not ask where its bytes come from. It is read in ranges, never whole: small requests
where a reader jumps about (a Parquet footer costs 64 KiB), growing to 4 MiB where it reads on; at
most `SEGMENTS` pieces are held. A request that fails is made again, `TRIES` times in all with a
growing pause; a file that is not there or not allowed is not asked for again. After that the error
is an OSError with the number of tries, which the readers turn into a problem of that file.

Credentials come from the environment or the provider's own files (AWS_ACCESS_KEY_ID, ~/.aws,
GOOGLE_APPLICATION_CREDENTIALS, HF_TOKEN), never from a source: a source is repeated in splits and
manifests. So options and addresses that hold one are refused, and values of such variables are
blanked out of messages. The endpoint of an S3-compatible store is AWS_ENDPOINT_URL, or
`endpoint_url` in the source's `storage_options`.

An HTTP address that ends with a slash is a folder, as its page of links shows it; the server must
give byte ranges, or the file be small. `hf://datasets/owner/name/…` needs only what `datasets`
brings; `s3://` needs s3fs, `gs://` gcsfs, `az://` adlfs.
"""

import io
import os
import re
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

PROTOCOLS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hf", "http", "https")
TRIES = 4
PAUSE = 0.25  # seconds, twice as long after each try
FIRST, BLOCK, SEGMENTS = 1 << 16, 4 << 20, 8

_SECRET = re.compile(
    r"(^|_|-)(key|token|passwd|credentials?|sas|authorization|cookie|connection_string)($|_|-)"
    r"|secret|password|accesskey",
    re.I,
)
_SIGNED = re.compile(r"^(sig|signature|x-amz-.*|x-goog-.*)$", re.I)
_HARMLESS = ("anon", "google_default", "cloud", "browser")  # ways to sign in, in gcsfs' `token`


class RemoteError(OSError):
    """A remote file that could not be read, after all tries."""


class Entry(NamedTuple):
    """A file of a listing: its path relative to the source, bytes, and a mark of its version."""

    name: str
    size: int
    version: str


def is_remote(path: str) -> bool:
    """Whether a source's path is an address that this module reads."""
    return path.partition("://")[0].lower() in PROTOCOLS and "://" in path


def check(path: str, options: dict) -> None:
    """Refuse an address or options that would carry a credential into a manifest.

    Raises ValueError with the name of the offending part, never its value.
    """
    parts = urlsplit(path)
    if "@" in parts.netloc and parts.scheme in ("http", "https"):
        raise ValueError("an address with a user or password in it; " + _ADVICE)
    if "::" in path:
        raise ValueError("chained addresses (a::b) are not read; give the plain address")
    for pair in parts.query.split("&") if parts.scheme in ("http", "https") else ():
        name = pair.partition("=")[0]
        if _SECRET.search(name) or _SIGNED.match(name):
            raise ValueError(f"the address carries a credential ({name[:40]}); " + _ADVICE)

    def look(value: Any, at: str) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                if _SECRET.search(str(key)) and inner not in _HARMLESS:
                    raise ValueError(f"storage_options{at}.{key}: a credential; " + _ADVICE)
                look(inner, f"{at}.{key}")
        elif isinstance(value, list | tuple):
            for inner in value:
                look(inner, at)
        elif isinstance(value, str) and "://" in value and "@" in urlsplit(value).netloc:
            raise ValueError(f"storage_options{at}: a user or password in an address; " + _ADVICE)

    look(options, "")


_ADVICE = (
    "manifests repeat the source, so give credentials in the environment "
    "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, HF_TOKEN, …) or the provider's own files"
)


def shown(path: str) -> str:
    """Give an address without user, password and query, to be said in a message."""
    parts = urlsplit(path)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def redact(text: str) -> str:
    """Blank out what the environment holds in variables named like credentials."""
    for name, value in os.environ.items():
        if len(value) >= 8 and _SECRET.search(name):
            text = text.replace(value, "***")
    return " ".join(text.split())


def _filesystem(path: str, options: dict) -> tuple[Any, str]:
    """Open the file system of an address; give it and the path that it knows the address by."""
    import fsspec

    protocol = path.partition("://")[0].lower()
    extra: dict = {}
    if protocol in ("s3", "s3a"):
        # Retries are ours, so that their number is what is said.
        config = {"connect_timeout": 10, "read_timeout": 60, "retries": {"total_max_attempts": 1}}
        extra = {"config_kwargs": config | options.get("config_kwargs", {})}
    elif protocol in ("http", "https"):
        import aiohttp

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
        extra = {"client_kwargs": {"timeout": timeout} | options.get("client_kwargs", {})}
    try:
        system = fsspec.filesystem(protocol, use_listings_cache=False, **(options | extra))
    except ImportError as error:
        raise RemoteError(f"{protocol}:// cannot be read here: {error}") from None
    if hasattr(system, "retries"):
        system.retries = 1
    return system, system._strip_protocol(path)


def _tried(call: Callable[[], Any]) -> Any:
    for attempt in range(1, TRIES + 1):
        try:
            return call()
        except RemoteError:
            raise
        except Exception as error:  # every provider has exceptions of its own
            if isinstance(error, _FINAL) and not _may_pass(error.__cause__):
                raise RemoteError(f"{_reason(error)}; not tried again") from None
            if attempt == TRIES:
                raise RemoteError(f"{_reason(error)}; tried {TRIES} times") from None
        time.sleep(PAUSE * 2 ** (attempt - 1))


_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotImplementedError)


def _may_pass(cause: BaseException | None) -> bool:
    """Whether a file is only said not to be there because the server could not be asked."""
    if isinstance(cause, ConnectionError | TimeoutError):
        return True
    status = getattr(cause, "status", None)
    ours = type(cause).__module__.startswith("aiohttp")
    return ours and (status is None or status == 429 or status >= 500)


def _reason(error: BaseException) -> str:
    if _may_pass(error.__cause__):
        error = error.__cause__
    text = redact(str(error) or str(error.__cause__ or ""))[:500]
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def listing(path: str, options: dict) -> tuple[bool, list[Entry]]:
    """List the files at an address, sorted by name; and whether the address is itself a file.

    Hidden names are left out. Raises RemoteError if there is nothing, or it cannot be reached.
    """
    system, root = _filesystem(path, options)
    web = path.startswith(("http://", "https://"))
    info = {} if web and path.endswith("/") else _tried(lambda: system.info(root))
    if info and info["type"] == "file":
        name = PurePosixPath(urlsplit(path).path if web else root).name
        return True, [Entry(name, info.get("size") or 0, version_of(info))]
    if web:
        _tried(lambda: system.ls(root))  # find() would take a server that is down for an empty one
    found = _tried(lambda: system.find(root, detail=True))
    base = root.rstrip("/") + "/"
    entries = [
        Entry(name.removeprefix(base), info.get("size") or 0, version_of(info))
        for name, info in found.items()
        if name.startswith(base) and info.get("type", "file") == "file" and not name.endswith("/")
    ]
    shown = [e for e in entries if not any(part.startswith(".") for part in e.name.split("/"))]
    return False, sorted(shown, key=lambda entry: entry.name.encode())


def version_of(info: dict) -> str:
    """What a provider says of a file that changes when the file does; empty if it says nothing."""
    for key in (
        "ETag",
        "etag",
        "md5Hash",
        "blob_id",
        "LastModified",
        "mtime",
        "updated",
        "Last-Modified",
    ):
        if info.get(key):
            return str(info[key]).strip('"')
    return ""


class RemoteFile:
    """A file at an address, with what the readers use of a Path. Raises RemoteError, an OSError."""

    def __init__(self, url: str, options: dict) -> None:
        self.url, self.options = url, options
        self.name = PurePosixPath(urlsplit(url).path or url).name
        self.suffix = PurePosixPath(self.name).suffix
        self._info: dict | None = None

    def info(self) -> dict:
        """What the provider says of the file; asked once."""
        if self._info is None:
            system, path = _filesystem(self.url, self.options)
            self._info = _tried(lambda: system.info(path))
        return self._info

    def size(self) -> int:
        """Bytes of the file."""
        size = self.info().get("size")
        if size is None:
            raise RemoteError("the server does not tell the file's size")
        return size

    def open(self, mode: str = "rb") -> io.RawIOBase:
        """Open the file for reading in ranges."""
        size = self.size()
        if size > FIRST and self.url.startswith(("http://", "https://")):
            _tried(self._check_ranges)
        system, path = _filesystem(self.url, self.options)

        def fetch(start: int, end: int) -> bytes:
            def once() -> bytes:
                data = system.cat_file(path, start=start, end=end)
                if len(data) != end - start:
                    raise OSError(f"asked for {end - start} bytes, {len(data)} came")
                return data

            return _tried(once)

        return _Ranges(fetch, size)

    def _check_ranges(self) -> None:
        """Raise RemoteError if an HTTP server would answer with the whole file each time."""
        from urllib.request import Request, urlopen

        fields = {"Range": "bytes=0-0", **self.options.get("headers", {})}
        request = Request(self.url, headers=fields)
        with urlopen(request, timeout=60) as answer:
            if answer.status != 206:
                raise RemoteError("the server gives no byte ranges; copy the file, read the copy")

    def read_bytes(self) -> bytes:
        """Read the whole file."""
        with self.open() as file:
            return file.read()


class _Ranges(io.RawIOBase):
    """A seekable file over requests for ranges, with reading ahead in several places at once."""

    def __init__(self, fetch: Callable[[int, int], bytes], size: int) -> None:
        self._fetch, self._size, self._at = fetch, size, 0
        self._segments: list[tuple[int, bytes]] = []

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        view, done = memoryview(buffer).cast("B"), 0
        while done < len(view) and self._at < self._size:
            start, data = self._piece(self._at, len(view) - done)
            part = data[self._at - start : self._at - start + len(view) - done]
            view[done : done + len(part)] = part
            done += len(part)
            self._at += len(part)
        return done

    def _piece(self, at: int, need: int) -> tuple[int, bytes]:
        for segment in self._segments:
            if segment[0] <= at < segment[0] + len(segment[1]):
                return segment
        before = next((s for s in self._segments if s[0] + len(s[1]) == at), None)
        length = FIRST
        if before is not None:
            self._segments.remove(before)
            length = 2 * len(before[1])
        length = min(max(length, need), BLOCK)
        self._segments.append((at, self._fetch(at, min(at + length, self._size))))
        del self._segments[:-SEGMENTS]
        return self._segments[-1]


File = Path | RemoteFile


def size_of(file: File) -> int:
    """Bytes of a local or a remote file."""
    return file.stat().st_size if isinstance(file, Path) else file.size()
