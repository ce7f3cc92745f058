"""The errors that a user can mend, and the exit codes of every command."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar, TypeVar

EXIT_DONE = 0
"""What was asked for is there."""
EXIT_FAILED = 1
"""Something went wrong that a later try may not meet: a bug, a lost machine, storage that does not answer."""
EXIT_BAD_INPUT = 2
"""Config, data, model, storage or lock must be mended first; trying again will not help."""
EXIT_PREEMPTED = 75
"""SIGTERM came, what was done is saved: the same command goes on (EX_TEMPFAIL of sysexits.h)."""

EXIT_CODES = (
    f"Exit codes: {EXIT_DONE} done; {EXIT_FAILED} failed, the same command may go on; {EXIT_BAD_INPUT} something must be "
    f"mended first; {EXIT_PREEMPTED} ended by SIGTERM and saved, the same command goes on."
)


class UserError(ValueError):
    """Bad config, data, model or storage. The message says what is wrong, where, and how to mend it.

    The command line prints it without a traceback; everything else that goes wrong keeps its traceback.
    """

    exit_code: ClassVar[int] = EXIT_BAD_INPUT
    findings: Sequence[str] = ()
    """The mistakes that it tells, where it was made of several (`listed`)."""


class StorageError(UserError, OSError):
    """A location cannot be read or written; the message says which, why and what to do."""


class StorageUnavailable(StorageError):
    """Storage did not answer, or was too busy, at every try: the same command may go on later."""

    exit_code: ClassVar[int] = EXIT_FAILED


class Preempted(BaseException):
    """SIGTERM asked the driver to end; like KeyboardInterrupt no error, so that nothing catches it by mistake."""


E = TypeVar("E", bound=UserError)


def listed(kind: type[E], head: str, findings: Sequence[str]) -> E:
    """An error with a line for each finding, or more where it has several."""
    lines = [f"  - {finding}".replace("\n", "\n    ") for finding in findings]
    error = kind("\n".join([f"{head}:", *lines]))
    error.findings = tuple(findings)
    return error


class Gathered:
    """Mistakes of checks that do not depend on each other, to be told together: whoever mends one should know of all."""

    def __init__(self) -> None:
        self.errors: list[UserError] = []

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Inside the block a UserError is kept, and ends the block alone."""
        try:
            yield
        except UserError as error:
            self.errors.append(error)

    @property
    def findings(self) -> list[str]:
        """Each mistake once."""
        return list(dict.fromkeys(told for error in self.errors for told in error.findings or (str(error),)))

    def raise_all(self, head: str) -> None:
        """Raise what was kept, if anything was: the one error as it is, several as one list under `head`."""
        if len(self.findings) == 1 or len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            kinds = {type(error) for error in self.errors}
            raise listed(kinds.pop() if len(kinds) == 1 else UserError, head, self.findings)


FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}

DENIED = {"ACCESSDENIED", "INVALIDACCESSKEYID", "SIGNATUREDOESNOTMATCH", "EXPIREDTOKEN", "INVALIDTOKEN", "403"}
UNAVAILABLE = {
    "NETWORKCONNECTION", "SLOWDOWN", "SERVICEUNAVAILABLE", "INTERNALFAILURE", "INTERNALERROR", "REQUESTTIMEOUT",
    "THROTTLING", "THROTTLED", "REQUESTTIMETOOSKEWED", "500", "502", "503", "504",
}  # fmt: skip
"""Names of S3's errors, of both client libraries, in capitals without underscores."""

GO_ON = "the same command goes on where it was"


@contextmanager
def storage_errors(doing: str, uri: str) -> Iterator[None]:
    """Inside the block an OSError (pyarrow's are) becomes a StorageError. doing: `read`, `written`, `listed`, `deleted`."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise explain(doing, uri, error) from error


def explain(doing: str, uri: str, error: OSError) -> StorageError:
    """What failed, where, why, and how to mend it."""
    if uri.startswith("s3://"):
        found = re.search(r"AWS Error (\w+)(?: \(HTTP status (\d+)\))?", str(error))
        name = (found[2] or found[1]) if found else ""
        return explain_s3(doing, uri, "NOSUCHKEY" if isinstance(error, FileNotFoundError) else name, str(error))
    where, code = f"{uri} cannot be {doing}", error.errno
    if code in FULL:
        limit = "the file-size limit (ulimit -f) is reached" if code == errno.EFBIG else "the disk is full"
        return StorageError(f"{where}: {limit}. Nothing half-written is left; make room, then {GO_ON}")
    if code in FORBIDDEN:
        return StorageError(f"{where}: {error.strerror}. Check the owner and the mount, or set another storage.root")
    if code == errno.ENOENT:
        return StorageError(f"{where}: it is not there")
    return StorageError(f"{where}: {error}")


def explain_s3(doing: str, uri: str, code: str, cause: str) -> StorageError:
    """The same for S3. code: the error's name (`SLOW_DOWN`, `SlowDown`) or HTTP status, "" if the server was not reached."""
    where, code = f"{uri} cannot be {doing}", code.replace("_", "").upper()
    if code in DENIED:
        return StorageError(
            f"{where}: access denied. Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY (or the role), AWS_REGION and the "
            f"bucket's policy. S3 says: {cause}"
        )
    if code == "NOSUCHBUCKET":
        return StorageError(f"{where}: there is no such bucket. Create it, or mend storage.root. S3 says: {cause}")
    if code in ("NOSUCHKEY", "RESOURCENOTFOUND", "404"):
        return StorageError(f"{where}: it is not there")
    if code in UNAVAILABLE or not code:
        return StorageUnavailable(
            f"{where}: S3 did not answer, or was too busy, at every try. Check AWS_ENDPOINT_URL and the network; later {GO_ON}. "
            f"S3 says: {cause}"
        )
    return StorageError(f"{where}. S3 says: {cause}")
