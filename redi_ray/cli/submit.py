"""`redi-ray submit`, `resubmit`, `status` and `stop`: a run as a job on a Ray cluster."""

from __future__ import annotations

import sys

from redi_ray.cluster.exits import clear_errors
from redi_ray.cluster.runtime import log, setup_logging
from redi_ray.cluster.submission import Job, Jobs, SubmissionError
from redi_ray.config.load import load_config


def jobs_of(config_uri: str, overrides: list[str], address: str | None) -> Jobs:
    """Raises SubmissionError where the cluster's machines could not find the run's folder, or no cluster is named."""
    config = load_config(config_uri, overrides)
    if not config.storage.root.startswith(("s3://", "/")):
        raise SubmissionError(
            f"storage.root is {config.storage.root}, which a job would look for in its own working directory; give s3://..., or "
            "a folder from / that every machine of the cluster sees"
        )
    return Jobs(config, address)


def submit_job(
    config_uri: str,
    overrides: list[str],
    address: str | None,
    *,
    command: str,
    until: str | None,
    follow: bool,
    again: bool,
) -> None:
    """Submit, or find what was submitted; with `follow`, print its output and exit with its exit code.

    until: a step of the graph, at which `run` ends. Raises GraphError here where there is none, not on the cluster.
    """
    setup_logging()
    with clear_errors():
        if until is not None:
            check_until(config_uri, overrides, command, until)
        jobs = jobs_of(config_uri, overrides, address)
        job, new = jobs.submit(command, until=until, again=again)
        log.info("%s: %s%s", job.id, job.status, "" if new else ", submitted before")
        if not new and job.ended:
            log.info("it has ended; redi-ray resubmit tries again and goes on where it was")
        if follow:
            job = jobs.follow(job, sys.stdout.write)
            log.info("%s: %s%s", job.id, job.status, f" ({job.message})" if job.code else "")
        print(job.id)
    if follow or job.ended:
        raise SystemExit(job.code)


def check_until(config_uri: str, overrides: list[str], command: str, until: str) -> None:
    """Raise SubmissionError where the command has no such option, GraphError where the graph has no such step."""
    from redi_ray.pipeline.standard import graph_of, step_named

    if command != "run":
        raise SubmissionError(f"--until {until}: `{command}` makes what its name says; leave --command out, or --until")
    config = load_config(config_uri, overrides)
    step_named(graph_of(config), until)


def show_status(config_uri: str, overrides: list[str], address: str | None) -> None:
    """One line per attempt."""
    setup_logging()
    with clear_errors():
        jobs = jobs_of(config_uri, overrides, address)
        if not (found := jobs.all()):
            print(f"{jobs.name}: no job is known here")
        for job in found:
            print(line_of(job))


def line_of(job: Job) -> str:
    """Such as `demo-3f2a91c0-1  FAILED  exit code 2  ...`."""
    code = f"  exit code {job.exit_code}" if job.exit_code is not None else ""
    return (
        f"{job.id}  {job.status}{code}  {job.message.strip().splitlines()[-1] if job.message.strip() else ''}".rstrip()
    )


def stop_job(config_uri: str, overrides: list[str], address: str | None) -> None:
    """Training saves after its step, everything else is cut off; `resubmit` goes on."""
    setup_logging()
    with clear_errors():
        jobs = jobs_of(config_uri, overrides, address)
        job = jobs.stop()
        if job is None:
            print(f"{jobs.name}: no job is under way")
            return
        jobs.follow(job, sys.stdout.write)
        print(line_of(jobs.get(job.id)))
