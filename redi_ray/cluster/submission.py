"""Runs as Ray jobs: the code packed, one job per run and attempt, its logs, its exit code.

A job's id says run and attempt (`demo-3f2a91c0-1`), and Ray takes an id once, so submitting twice starts one job. Trying
again is another attempt of the same run, which goes on where the last one was. Code and config travel in a folder of their
own: what the cluster runs is what lay here, whatever is installed there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenacity import retry, retry_if_exception_message, stop_after_delay, wait_fixed

import redi_ray
from redi_ray.config.experiment import ExperimentConfig
from redi_ray.config.load import dump_config
from redi_ray.errors import EXIT_FAILED, EXIT_PREEMPTED, UserError
from redi_ray.store.commit import COMMIT, code_commit
from redi_ray.store.storage import content_hash

STOP_SECONDS = 600
"""How long a job may take to save when it is stopped; Ray's own default is 3."""
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


class SubmissionError(UserError):
    """The cluster does not take the job; the message says why and what to do."""


@dataclass(frozen=True)
class Job:
    """One attempt of a run."""

    id: str
    attempt: int
    status: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    exit_code: int | None
    """Of the driver, once it has ended."""
    message: str
    config: str
    """Hash of the resolved config, and of the step that it ends at."""

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def code(self) -> int:
        """What the command line exits with: the driver's own code, where it left one."""
        if self.status == "SUCCEEDED":
            return 0
        if self.status == "STOPPED":
            return EXIT_PREEMPTED
        return self.exit_code or EXIT_FAILED


class Jobs:
    """The jobs of one run on the cluster at `address` (its dashboard's, `http://host:8265`)."""

    def __init__(self, config: ExperimentConfig, address: str | None) -> None:
        """address: null takes RAY_ADDRESS. Raises SubmissionError if the cluster does not answer or refuses the token."""
        self.config = config
        self.name = f"{config.name}-{content_hash(config.run_uri)[:8]}"
        self.client = connect(address)

    def all(self) -> list[Job]:
        """Every attempt that the cluster remembers, in order."""
        with told("list the jobs"):
            details = self.client.list_jobs()
        found = [job_of(detail) for detail in details if (detail.metadata or {}).get("run") == self.name]
        return sorted(found, key=lambda job: job.attempt)

    def get(self, job_id: str) -> Job:
        with told(f"ask for {job_id}"):
            return job_of(self.client.get_job_info(job_id))

    def submit(self, command: str, *, until: str | None = None, again: bool = False) -> tuple[Job, bool]:
        """The job of this run's first attempt, or with `again` of the next one, and whether it is new.

        until: the step at which `run` ends. An attempt that is there is not started twice. Raises SubmissionError if one with
        another config is under way, or if there is nothing that could be tried again.
        """
        whole = dump_config(self.config)
        jobs, config = self.all(), content_hash(whole if until is None else [whole, until])[:16]
        last = jobs[-1] if jobs else None
        if last is not None and not last.ended and last.config != config:
            raise SubmissionError(
                f"{last.id} is {last.status} with another config or --until; stop it first (redi-ray stop CONFIG)"
            )
        if last is not None and (not last.ended or not again):
            return last, False
        if last is None and again:
            raise SubmissionError(f"no job of {self.name} is known here; start one with redi-ray submit")
        attempt = last.attempt + 1 if last else 1
        job_id, ends = f"{self.name}-{attempt}", f" --until {until}" if until is not None else ""
        with packed(self.config) as folder, told(f"submit {job_id}"):
            new = self._send(
                entrypoint=f"python -m redi_ray.cli {command} config.yaml{ends}",
                submission_id=job_id,
                runtime_env={
                    "working_dir": folder,
                    "env_vars": {
                        **self.config.resources.ray.env,
                        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS),
                        COMMIT: code_commit() or "",
                    },
                },
                metadata={"run": self.name, "attempt": str(attempt), "config": config},
            )
        return self.get(job_id), new

    @retry(
        retry=retry_if_exception_message(match=".*No available agent"),  # a head that has just started
        wait=wait_fixed(2),
        stop=stop_after_delay(60),
        reraise=True,
    )
    def _send(self, **job: Any) -> bool:
        """Whether it is new: another terminal may have been faster."""
        try:
            self.client.submit_job(**job)
        except RuntimeError as error:
            if "already exists" not in str(error):
                raise
            return False
        return True

    def stop(self) -> Job | None:
        """Ask the job that is under way to save and end; None if there is none."""
        last = next((job for job in reversed(self.all()) if not job.ended), None)
        if last is not None:
            with told(f"stop {last.id}"):
                self.client.stop_job(last.id)
        return last

    def follow(self, job: Job, write: Callable[[str], Any]) -> Job:
        """Hand on the job's output as it comes, until it has ended; a connection that breaks is made again."""
        seen = 0

        async def tail() -> None:
            nonlocal seen
            skip = seen
            async for text in self.client.tail_job_logs(job.id):
                new, skip = text[skip:], max(0, skip - len(text))
                seen += len(new)
                write(new)

        while not (now := self.get(job.id)).ended:
            with contextlib.suppress(RuntimeError, OSError):  # the output ends, or the connection does
                asyncio.run(tail())
        asyncio.run(_rest(tail))
        return now


async def _rest(tail: Callable[[], Any]) -> None:
    """What was written after the last look."""
    with contextlib.suppress(RuntimeError, OSError):
        await tail()


def job_of(detail: Any) -> Job:
    known = detail.metadata or {}
    return Job(
        id=detail.submission_id,
        attempt=int(known.get("attempt", 0)),
        status=str(getattr(detail.status, "value", detail.status)),
        exit_code=detail.driver_exit_code,
        message=detail.message or "",
        config=known.get("config", ""),
    )


def connect(address: str | None) -> Any:
    """Ray's client for jobs. Raises SubmissionError."""
    from ray.job_submission import JobSubmissionClient

    where = address or os.environ.get("RAY_ADDRESS")
    if not where:
        raise SubmissionError("no cluster: give --address http://HOST:8265 (the dashboard's), or set RAY_ADDRESS")
    if not where.startswith(("http://", "https://")):
        raise SubmissionError(
            f"{where} is not a dashboard's address; jobs go to http://HOST:8265 (see cluster/README.md)"
        )
    with told(f"reach {where}"):
        return JobSubmissionClient(where)


@contextmanager
def told(doing: str) -> Iterator[None]:
    """Ray's errors as a SubmissionError."""
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        raise SubmissionError(
            f"could not {doing}: the cluster wants a token and got none, or another. Set RAY_AUTH_MODE=token and "
            "RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) to the cluster's; cluster/README.md says where it lies"
        ) from error
    except RuntimeError as error:
        raise SubmissionError(f"could not {doing}: {error}") from error
    except OSError as error:
        raise SubmissionError(
            f"could not {doing}: {error}. Is the cluster up, and its dashboard forwarded to here (cluster/README.md)?"
        ) from error


@contextmanager
def packed(config: ExperimentConfig) -> Iterator[str]:
    """A folder with the package and the resolved config, as a job's working directory."""
    with tempfile.TemporaryDirectory(prefix="redi_ray-job-") as folder:
        ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(Path(redi_ray.__file__).parent, Path(folder) / "redi_ray", ignore=ignore)
        (Path(folder) / "config.yaml").write_text(dump_config(config))
        yield folder
