"""Where a lock lies: on a disk that drivers share, or on S3. Both create, look at, renew and take over atomically."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Protocol

from redi_ray.errors import StorageError, storage_errors
from redi_ray.store import s3

log = logging.getLogger("redi_ray")

REFUSED = {"PreconditionFailed", "ConditionalRequestConflict"}
GONE = {"NoSuchKey", "404"}


@dataclass(frozen=True)
class Seen:
    """A lock as it was found."""

    owner: Mapping[str, Any]
    """Empty if it cannot be read."""
    age: float
    """Seconds since the last sign of life, by the storage's own clock: those of two machines may differ."""
    token: str
    """Changes with every sign of life, and with the owner."""


class LockPlace(Protocol):
    """All methods raise StorageError where the place is out of reach."""

    uri: str

    def create(self, owner: Mapping[str, Any]) -> bool:
        """Put the lock there unless there is one."""
        ...

    def read(self) -> Seen | None:
        """The lock that is there."""
        ...

    def look(self) -> Seen | None:
        """The same for who only looks: nothing is written, so the age may be some seconds off."""
        ...

    def take_over(self, seen: Seen, owner: Mapping[str, Any]) -> bool:
        """Put ours in place of exactly the one that was seen; False if that has changed since."""
        ...

    def beat(self) -> bool:
        """A sign of life; False if the lock is no longer ours."""
        ...

    def release(self) -> None:
        """Remove the lock if it is ours."""
        ...


class LocalPlace:
    """A file. Its modification time is the sign of life, set through the open file: never that of another's lock."""

    def __init__(self, uri: str) -> None:
        self.uri, self.path = uri, Path(uri)
        self._file: int | None = None
        self._id = ""
        self._made: list[Path] = []

    def create(self, owner: Mapping[str, Any]) -> bool:
        with storage_errors("written", self.uri):
            self._make_folders()
            with self._alone():
                return self._create(owner)

    def read(self) -> Seen | None:
        found = self._look()
        if found is None:
            return None
        owner, touched = found
        return Seen(owner, (self._now() - touched) / 1e9, _token(owner, touched))

    def look(self) -> Seen | None:
        """As `read`, but by this machine's clock: nothing is written."""
        found = self._look()
        if found is None:
            return None
        owner, touched = found
        return Seen(owner, time.time() - touched / 1e9, _token(owner, touched))

    def take_over(self, seen: Seen, owner: Mapping[str, Any]) -> bool:
        """Remove exactly that one, and create ours."""
        with storage_errors("written", self.uri), self._alone():
            return self._remove(lambda *moved: _token(*moved) == seen.token) and self._create(owner)

    def beat(self) -> bool:
        if self._file is None or not self._is_ours():
            return False
        with storage_errors("written", self.uri):
            os.utime(self._file)
        return True

    def release(self) -> None:
        """Remove the lock if it is ours. Between a look and an unlink another driver may have taken it over."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
            with storage_errors("deleted", self.uri), self._alone():
                found = self._look()
                if found is not None and found[0].get("id") == self._id:
                    self._remove(lambda owner, touched: owner.get("id") == self._id)
        with suppress(OSError):  # a folder in which nothing was left is not left either
            for folder in self._made:
                folder.rmdir()

    def _remove(self, is_meant: Callable[[dict[str, Any], int], bool]) -> bool:
        """Rename the lock away, look at it, and delete it if it is the one that is meant; another one goes back.

        Where a disk lets two try at once (see `_alone`), what is renamed need not be what was looked at before.
        """
        aside = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return False
        moved = LocalPlace(str(aside))._look()
        meant = moved is not None and is_meant(*moved)
        if not meant:
            with suppress(FileExistsError):
                os.link(aside, self.path)
        aside.unlink(missing_ok=True)
        return meant

    def _create(self, owner: Mapping[str, Any]) -> bool:
        try:
            file = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        except FileExistsError:
            return False
        try:
            os.write(file, json.dumps(owner).encode())
            os.fsync(file)
        except BaseException:
            os.close(file)
            self.path.unlink()
            raise
        self._file, self._id = file, owner["id"]
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One at a time, where the disk knows flock on folders (local ones do, NFS does not)."""
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            with suppress(OSError):
                fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _is_ours(self) -> bool:
        with storage_errors("read", self.uri), self._alone():
            found = self._look()
        return found is not None and found[0].get("id") == self._id

    def _look(self) -> tuple[dict[str, Any], int] | None:
        """Owner, and the time of the last sign of life in ns."""
        try:
            with storage_errors("read", self.uri), self.path.open("rb") as file:
                return _parse(file.read()), os.fstat(file.fileno()).st_mtime_ns
        except StorageError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise

    def _make_folders(self) -> None:
        missing = [folder for folder in self.path.parents if not folder.exists()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._made = self._made or missing

    def _now(self) -> int:
        """The file server's time, in ns."""
        probe = self.path.with_name(f"{self.path.name}.{uuid.uuid4().hex[:8]}.tmp")
        with storage_errors("written", self.uri):
            try:
                probe.touch()
                return probe.stat().st_mtime_ns
            finally:
                probe.unlink(missing_ok=True)


def _parse(content: bytes) -> dict[str, Any]:
    try:
        return dict(json.loads(content))
    except (ValueError, TypeError):
        return {}


def _token(owner: Mapping[str, Any], touched: int) -> str:
    return f"{owner.get('id')} {touched}"


class S3Place:
    """An object, written only under a condition: that there is none, or that it is still the version that we know."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.bucket, _, self.key = uri.removeprefix("s3://").partition("/")
        self._owner: dict[str, Any] = {}
        self._version = ""
        self._beats = 0

    def create(self, owner: Mapping[str, Any]) -> bool:
        if not self._put(owner, IfNoneMatch="*"):
            return False
        if not self._conditions_hold():
            log.warning(
                "%s: this S3 server ignores If-None-Match, so two drivers of one run would not be noticed", self.uri
            )
        return True

    def _conditions_hold(self) -> bool:
        """Whether a second object is refused where there is one. If it is not, it is ours all the same."""
        from botocore.exceptions import ClientError

        with s3.client_errors("written", self.uri):
            try:
                body = json.dumps(self._owner).encode()
                done = s3.client().put_object(Bucket=self.bucket, Key=self.key, Body=body, IfNoneMatch="*")
            except ClientError as error:
                if s3.error_code(error) not in REFUSED:
                    raise
                return True
        self._version = done["ETag"]
        return False

    def read(self) -> Seen | None:
        found = self._get()
        if found is None:
            return None
        content, version, age = found
        return Seen(_parse(content), age, version)

    look = read

    def take_over(self, seen: Seen, owner: Mapping[str, Any]) -> bool:
        return self._put(owner, IfMatch=seen.token)

    def beat(self) -> bool:
        return bool(self._version) and self._put(self._owner, IfMatch=self._version)

    def release(self) -> None:
        from botocore.exceptions import ClientError

        if not self._version:
            return
        with s3.client_errors("deleted", self.uri):
            try:
                s3.client().delete_object(Bucket=self.bucket, Key=self.key, IfMatch=self._version)
            except ClientError as error:
                if s3.error_code(error) not in REFUSED | GONE:  # those: another's by now
                    raise
        self._version = ""

    def _put(self, owner: Mapping[str, Any], **condition: str) -> bool:
        """Put under a condition. A refusal may come from our own put whose answer was lost, so the object is looked at."""
        from botocore.exceptions import ClientError

        self._beats += 1  # or two signs of life had the same version
        told = {**owner, "beats": self._beats}
        with s3.client_errors("written", self.uri):
            try:
                done = s3.client().put_object(
                    Bucket=self.bucket, Key=self.key, Body=json.dumps(told).encode(), **condition
                )
                version = done["ETag"]
            except ClientError as error:
                if s3.error_code(error) in GONE:
                    return False
                if s3.error_code(error) not in REFUSED:
                    raise
                seen = self.read()
                if seen is None or seen.owner.get("id") != owner["id"]:
                    return False
                version = seen.token
        self._owner, self._version = dict(owner), version
        return True

    def _get(self) -> tuple[bytes, str, float] | None:
        """Content, version, and seconds since it was written; boto3 does not try again when a body is cut off."""
        from botocore.exceptions import BotoCoreError, ClientError

        with s3.client_errors("read", self.uri):
            for attempt in range(1 + s3.LOCKS.retries):
                try:
                    found = s3.client().get_object(Bucket=self.bucket, Key=self.key)
                    content = found["Body"].read()
                    break
                except ClientError as error:
                    if s3.error_code(error) in GONE:
                        return None
                    raise
                except BotoCoreError:
                    if attempt == s3.LOCKS.retries:
                        raise
                    time.sleep(0.2 * 2**attempt)
        told = found["ResponseMetadata"]["HTTPHeaders"].get("date")
        now = parsedate_to_datetime(told).timestamp() if told else time.time()
        return content, found["ETag"], now - found["LastModified"].timestamp()
