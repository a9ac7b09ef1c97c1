"""S3 and whatever speaks its protocol, as the far side of an upload.

Files larger than `PART` go in parts of that size. The parts of an upload that was killed are still
there: those whose MD5 is that of the file's part are not sent again. Each part is sent with its
MD5, which the store checks, and the ETag that it gives back must be the same. The object carries
the file's SHA-256 as metadata, by which the next run knows it; it exists only once all parts were
right. Where a store encrypts with keys of its own (SSE-KMS), ETags are no MD5s and only sizes are
compared after the fact.

Credentials and the endpoint come from the environment and the provider's own files, as botocore
reads them (AWS_ACCESS_KEY_ID, AWS_PROFILE, AWS_ENDPOINT_URL, …). Memory: `PART` for each thread.
"""

import base64
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import md5, sha256
from pathlib import Path
from typing import Any

from curation.remote import redact
from pipelines.publish.upload import Told, UploadError, changed, in_threads

PART = 16 << 20
_MOST_PARTS = 10_000
_MD5 = re.compile(r"[0-9a-f]{32}(-\d+)?")
_WHY = {
    "NoSuchBucket": "there is no such bucket; make it first, or mend the name",
    "AccessDenied": "no permission; the credentials need to list, read and write there",
    "InvalidAccessKeyId": "the access key is not known; mend AWS_ACCESS_KEY_ID or the profile",
    "SignatureDoesNotMatch": "the secret key is wrong; mend AWS_SECRET_ACCESS_KEY or the profile",
    "ExpiredToken": "the session token has expired; get a new one",
}
_TYPES = {".parquet": "application/vnd.apache.parquet", ".json": "application/json",
          ".md": "text/markdown; charset=utf-8"}  # fmt: skip


class S3:
    """A prefix of a bucket."""

    def __init__(self, bucket: str, prefix: str, threads: int) -> None:
        """Raises UploadError when botocore is not installed."""
        self.where = f"s3://{bucket}/{prefix}".rstrip("/")
        self._bucket, self._prefix, self._threads = bucket, prefix and f"{prefix}/", threads
        try:
            import botocore.config
            import botocore.session
        except ImportError:
            raise UploadError(
                f"{self.where}: s3:// needs botocore; pip install 'gristmill[s3]'"
            ) from None
        session = botocore.session.get_session()
        self._client = session.create_client(
            "s3",
            region_name=session.get_config_variable("region") or "us-east-1",
            config=botocore.config.Config(
                connect_timeout=10,
                read_timeout=120,
                retries={"total_max_attempts": 4, "mode": "standard"},
                max_pool_connections=max(threads, 10),
                # Parts carry their MD5; many stores do not know the newer checksums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def _call(self, name: str, **arguments: Any) -> dict:
        """A call of the API; whatever it raises becomes one line."""
        return self._told(lambda: getattr(self._client, name)(Bucket=self._bucket, **arguments))

    def _told(self, call: Callable[[], Any]) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        try:
            return call()
        except NoCredentialsError:
            why = "no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            code = {"403": "AccessDenied"}.get(code, code)
            if code in ("404", "NoSuchKey", "NoSuchUpload"):
                raise FileNotFoundError from None
            why = _WHY.get(code) or redact(f"{code or status}: {error}")[:300]
            why = f"{why} ({error.operation_name})"
        except (BotoCoreError, OSError) as error:
            why = f"cannot be reached: {redact(str(error))[:300]}"
        raise UploadError(f"{self.where}: {why}") from None

    def listing(self) -> dict[str, int]:
        """See `Target`."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix
        )
        found = {}
        for page in self._told(lambda: list(pages)):
            for item in page.get("Contents", ()):
                found[item["Key"].removeprefix(self._prefix)] = item["Size"]
        return found

    def read(self, path: str) -> bytes | None:
        """See `Target`."""
        try:
            answer = self._call("get_object", Key=self._prefix + path)
            return self._told(answer["Body"].read)
        except FileNotFoundError:
            return None

    def holds(self, root: Path, files: Sequence[dict]) -> set[str]:
        """See `Target`; one request for each file."""

        def ours(file: dict) -> bool:
            try:
                head = self._call("head_object", Key=self._prefix + file["path"])
            except FileNotFoundError:
                return False
            known = head.get("Metadata", {}).get("sha256")
            return head["ContentLength"] == file["bytes"] and known == file["sha256"]

        with ThreadPoolExecutor(max(self._threads, 8)) as pool:
            right = list(pool.map(ours, files))
        return {file["path"] for file, is_right in zip(files, right, strict=True) if is_right}

    def put(self, root: Path, files: Sequence[dict], told: Told) -> None:
        """See `Target`."""
        in_threads(lambda file: self._send(root, file, told), files, self._threads)

    def finish(self, root: Path, files: Sequence[dict], stale: Sequence[str], told: Told) -> None:
        """See `Target`."""
        for path in stale:
            self._call("delete_object", Key=self._prefix + path)
        for file in files:
            self._send(root, file, told)

    def _send(self, root: Path, file: dict, told: Told) -> None:
        path, key = root / file["path"], self._prefix + file["path"]
        about = {
            "Metadata": {"sha256": file["sha256"]},
            "ContentType": _TYPES.get(path.suffix, "application/octet-stream"),
        }
        if file["bytes"] <= PART:
            body = path.read_bytes()
            if sha256(body).hexdigest() != file["sha256"]:
                raise changed(path)
            digest = md5(body, usedforsecurity=False).digest()
            md5_header = base64.b64encode(digest).decode()
            self._call("put_object", Key=key, Body=body, ContentMD5=md5_header, **about)
            told(len(body))
            self._check(file, digest.hex())
            return
        try:
            tag = self._send_parts(path, key, file, about, told)
        except FileNotFoundError:
            raise UploadError(
                f"{self.where}/{file['path']}: the store has dropped this upload half-way; run "
                "the same command again"
            ) from None
        self._check(file, tag)

    def _send_parts(self, path: Path, key: str, file: dict, about: dict, told: Told) -> str:
        """Send a file in parts, going on with what a killed run left; returns the ETag expected."""
        size = max(PART, -(-file["bytes"] // _MOST_PARTS))
        upload, there = self._begun(key)
        digests: list[bytes] = []
        whole = sha256()
        for number, body in enumerate(_parts(path, size), 1):
            whole.update(body)
            digest = md5(body, usedforsecurity=False).digest()
            digests.append(digest)
            if there.get(number, digest.hex()) != digest.hex():
                # Parts of another version, whose metadata the object would get.
                self._call("abort_multipart_upload", Key=key, UploadId=upload)
                return self._send_parts(path, key, file, about, told)
            if number not in there:
                if upload is None:
                    upload = self._call("create_multipart_upload", Key=key, **about)["UploadId"]
                answer = self._call(
                    "upload_part",
                    Key=key,
                    UploadId=upload,
                    PartNumber=number,
                    Body=body,
                    ContentMD5=base64.b64encode(digest).decode(),
                )
                tag = answer["ETag"].strip('"')
                if _MD5.fullmatch(tag) and tag != digest.hex() and not _encrypted(answer):
                    raise UploadError(f"{self.where}/{file['path']}: part {number} has arrived "
                                      f"with other bytes (MD5 {tag}, sent {digest.hex()}); run the "
                                      "same command again")  # fmt: skip
                there[number] = tag
            told(len(body))
        if whole.hexdigest() != file["sha256"]:
            self._call("abort_multipart_upload", Key=key, UploadId=upload)
            raise changed(path)
        parts = [{"PartNumber": k, "ETag": there[k]} for k in range(1, len(digests) + 1)]
        self._call(
            "complete_multipart_upload",
            Key=key,
            UploadId=upload,
            MultipartUpload={"Parts": parts},
        )
        return f"{md5(b''.join(digests), usedforsecurity=False).hexdigest()}-{len(digests)}"

    def _begun(self, key: str) -> tuple[str | None, dict[int, str]]:
        """The last unfinished upload of a key, and the ETags of its parts by number."""
        try:
            listed = self._call("list_multipart_uploads", Prefix=key).get("Uploads", ())
            mine = sorted(
                (upload["Initiated"], upload["UploadId"])
                for upload in listed
                if upload["Key"] == key
            )
            if not mine:
                return None, {}
            upload = mine[-1][1]
            pages = self._client.get_paginator("list_parts").paginate(
                Bucket=self._bucket, Key=key, UploadId=upload
            )
            found = self._told(lambda: list(pages))
        except (UploadError, FileNotFoundError):
            return None, {}  # some stores don't let one look; then it begins anew
        return upload, {
            part["PartNumber"]: part["ETag"].strip('"')
            for page in found
            for part in page.get("Parts", ())
        }

    def _check(self, file: dict, tag: str) -> None:
        """Compare what the store says of an object with what was sent."""
        where = f"{self.where}/{file['path']}"
        try:
            head = self._call("head_object", Key=self._prefix + file["path"])
        except FileNotFoundError:
            raise UploadError(f"{where}: was sent and is not there") from None
        found = head["ETag"].strip('"')
        if head["ContentLength"] != file["bytes"]:
            raise UploadError(
                f"{where}: {head['ContentLength']:,} bytes arrived, {file['bytes']:,} were sent; "
                "run the same command again"
            )
        wrong = _MD5.fullmatch(found) and found != tag and not _encrypted(head)
        if wrong or head.get("Metadata", {}).get("sha256") != file["sha256"]:
            self._call("delete_object", Key=self._prefix + file["path"])
            raise UploadError(
                f"{where}: arrived with other bytes (ETag {found}, expected {tag}) and was deleted "
                "there; run the same command again"
            )


def _encrypted(answer: dict) -> bool:
    """Whether ETags are no MD5s because of how the store encrypts."""
    return "kms" in str(answer.get("ServerSideEncryption")) or "SSECustomerAlgorithm" in answer


def _parts(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while body := file.read(size):
            yield body
