"""The Hugging Face Hub as the far side of an upload, through `huggingface_hub`'s own API.

Large files go to the Hub's storage one by one (`preupload_lfs_files`, by Xet where it is
installed), and every `BATCH` of them become visible in one commit. A killed run loses at most the
file it was sending: committed files are known by the SHA-256 that the Hub lists, and of those sent
and not yet committed the storage says that it has them. After each commit the Hub is asked what it
has under these names.

The token is the one of `huggingface_hub` (HF_TOKEN, `hf auth login`); HF_ENDPOINT names another
Hub. The repository is made if it is not there.
"""

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from curation.remote import redact
from pipelines.files import checksum
from pipelines.publish.upload import Told, UploadError, changed, in_threads

BATCH = 50  # files of a commit; the Hub recommends 50 to 100
# Answers that may be others a moment later; None: no answer at all.
PASSING = (None, 408, 409, 412, 429, 500, 502, 503, 504)
TRIES, PAUSE = 4, 1.0  # of a commit; seconds, twice as long after each try


class Hub:
    """A dataset repository, its branch `main`."""

    def __init__(self, name: str, private: bool, threads: int) -> None:
        """name: OWNER/NAME; private: whether the repository is made so, if it is made."""
        import huggingface_hub
        from huggingface_hub.utils import disable_progress_bars, logging

        disable_progress_bars()
        logging.set_verbosity_error()
        self.where = f"hf://datasets/{name}"
        self._repo = {"repo_id": name, "repo_type": "dataset"}
        self._private, self._threads = private, threads
        endpoint = os.environ.get("HF_ENDPOINT") or None
        self._api = huggingface_hub.HfApi(endpoint, library_name="gristmill")

    def _call(self, call: Callable[[], Any]) -> Any:
        """Do a call of the API; whatever it raises becomes one line."""
        from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

        try:
            return call()
        except (UploadError, RepositoryNotFoundError):
            raise
        except HfHubHTTPError as error:
            why, status = _why(error), error.response.status_code
            raise _Refused(f"{self.where}: {why}", status) from None
        except Exception as error:  # of whatever speaks HTTP underneath
            cause = error.__cause__
            if isinstance(cause, HfHubHTTPError):
                raise _Refused(f"{self.where}: {_why(cause)}", cause.response.status_code) from None
            text = redact(str(error) or type(error).__name__)[:300]
            raise _Refused(f"{self.where}: {text}", None) from None

    def listing(self) -> dict[str, int]:
        """See `Target`."""
        from huggingface_hub.errors import RepositoryNotFoundError
        from huggingface_hub.utils import get_token

        if not get_token():
            raise UploadError(
                f"{self.where}: no token; set HF_TOKEN or run `hf auth login` with one that may "
                "write there"
            )
        self._call(self._api.whoami)  # the one call that is not made again when nobody answers
        try:
            tree = self._call(lambda: list(self._api.list_repo_tree(recursive=True, **self._repo)))
        except RepositoryNotFoundError:
            private = self._private or None
            try:
                self._call(
                    partial(self._api.create_repo, exist_ok=True, private=private, **self._repo)
                )
            except RepositoryNotFoundError as error:
                raise UploadError(f"{self.where}: {_why(error)}") from None
            return {}
        return {item.path: item.size for item in tree if hasattr(item, "blob_id")}

    def read(self, path: str) -> bytes | None:
        """See `Target`."""
        with tempfile.TemporaryDirectory() as folder:
            local = self._call(
                lambda: self._api.hf_hub_download(filename=path, local_dir=folder, **self._repo)
            )
            return Path(local).read_bytes()

    def holds(self, root: Path, files: Sequence[dict]) -> set[str]:
        """See `Target`. Small files are in git, which knows them by another hash than ours."""
        found = self._info([file["path"] for file in files])
        return {f["path"] for f in files if self._is(root, f, found.get(f["path"]))}

    def _info(self, paths: list[str]) -> dict[str, Any]:
        found = {}
        for start in range(0, len(paths), 500):
            part = paths[start : start + 500]
            for item in self._call(
                lambda part=part: self._api.get_paths_info(paths=part, **self._repo)
            ):
                found[item.path] = item
        return found

    def _is(self, root: Path, file: dict, item: Any) -> bool:
        if item is None or item.size != file["bytes"]:
            return False
        if item.lfs is not None:
            return item.lfs.sha256 == file["sha256"]
        data = (root / file["path"]).read_bytes()
        return item.blob_id == hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def put(self, root: Path, files: Sequence[dict], told: Told) -> None:
        """See `Target`."""
        count = -(-len(files) // BATCH)
        for k in range(count):
            batch = files[k * BATCH : (k + 1) * BATCH]
            self._commit(root, batch, [], told, f"Data, part {k + 1} of {count}")

    def finish(self, root: Path, files: Sequence[dict], stale: Sequence[str], told: Told) -> None:
        """See `Target`; one commit."""
        self._commit(root, files, stale, told, "Card and manifest")

    def _commit(
        self, root: Path, files: Sequence[dict], stale: Sequence[str], told: Told, message: str
    ) -> None:
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        def send(file: dict) -> None:
            if checksum(root / file["path"]) != file["xxh3"]:
                raise changed(root / file["path"])
            addition = additions[file["path"]]
            self._again(
                lambda: self._api.preupload_lfs_files(
                    additions=[addition], num_threads=1, free_memory=False, **self._repo
                )
            )
            told(file["bytes"])

        additions = {
            file["path"]: CommitOperationAdd(file["path"], str(root / file["path"]))
            for file in files
        }
        in_threads(send, files, self._threads)
        operations = [*additions.values(), *(CommitOperationDelete(path) for path in stale)]
        self._again(
            lambda: self._api.create_commit(
                operations=operations, commit_message=message, **self._repo
            )
        )
        found = self._call(lambda: self._info([file["path"] for file in files]))
        for file in files:
            if not self._is(root, file, found.get(file["path"])):
                item = found.get(file["path"])
                has = f"{item.size:,} bytes, {_hash(item)}" if item else "nothing"
                raise UploadError(
                    f"{self.where}/{file['path']}: the Hub has {has}, sent were {file['bytes']:,} "
                    f"bytes, SHA-256 {file['sha256']}; run the same command again"
                )

    def _again(self, call: Callable[[], Any]) -> Any:
        """Do a call, several times where the Hub is busy, down, or was changed meanwhile."""
        for attempt in range(1, TRIES + 1):
            try:
                return self._call(call)
            except _Refused as error:
                if attempt == TRIES or error.status not in PASSING:
                    raise
            time.sleep(PAUSE * 2 ** (attempt - 1))


class _Refused(UploadError):
    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message)
        self.status = status


def _hash(item: Any) -> str:
    return f"SHA-256 {item.lfs.sha256}" if item.lfs else f"git {item.blob_id}"


def _why(error: Any) -> str:
    """What the Hub said, in one line."""
    status = error.response.status_code
    said = redact(str(error.server_message or error))[:300]
    if status == 401:
        return f"the token is not accepted; mend HF_TOKEN or run `hf auth login` ({said})"
    if status == 403:
        return f"no permission; the token must be allowed to write there ({said})"
    if status == 404:
        return f"there is no such place, or the token may not see it ({said})"
    return f"the Hub answers {status}: {said}"
