"""What the driver of a training passes on to its workers, and what it makes of their errors."""

from __future__ import annotations

import pickle
import threading
import time
from pathlib import Path

from ray.train.v2._internal.exceptions import UserExceptionWithTraceback
from ray.train.v2.api.exceptions import WorkerGroupError
from test_worker import make_orders

from redi_ray.errors import EXIT_FAILED, StorageUnavailable
from redi_ray.store import storage
from redi_ray.train.distributed import Distributed
from redi_ray.train.on_ray.launch import passing_on, storage_failure
from redi_ray.train.on_ray.outside import listening
from redi_ray.train.on_ray.worker import refuse


def test_the_drivers_word_reaches_the_flag_that_the_loop_asks(tmp_path: Path) -> None:
    orders, asked = make_orders(str(tmp_path)), threading.Event()
    with passing_on(asked, orders), listening(orders, Distributed()) as outside:
        stop = outside.hooks().stop_requested
        time.sleep(0.5)
        assert not stop()
        asked.set()
        deadline = time.monotonic() + 5
        while not stop() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert stop()


def test_an_outage_that_all_attempts_ended_with_is_told_without_rays_traceback() -> None:
    """As Ray Train hands it over: wrapped, pickled, by rank."""
    outage = StorageUnavailable("s3://bucket/x cannot be written: S3 did not answer")
    for failure in (outage, UserExceptionWithTraceback(outage, "Traceback ...")):
        error = pickle.loads(pickle.dumps(WorkerGroupError("...", {0: failure})))
        found = storage_failure(error)
        assert type(found) is StorageUnavailable
        assert (str(found), found.exit_code) == (str(outage), EXIT_FAILED)
    assert storage_failure(WorkerGroupError("...", {0: ValueError("bad data")})) is None


def test_a_refusal_says_whether_storage_is_the_reason(tmp_path: Path) -> None:
    orders = make_orders(str(tmp_path))
    refuse(orders, Distributed(), storage.StorageError("the disk is full"))
    assert storage.read_json(f"{orders.bookkeeping}/refused.json")["storage"]
    refuse(orders, Distributed(), ValueError("longer than max_length"))
    assert not storage.read_json(f"{orders.bookkeeping}/refused.json")["storage"]
