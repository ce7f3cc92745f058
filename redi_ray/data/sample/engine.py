"""A vLLM engine in this process, for one model after the other.

What costs half a minute is a new process that imports vLLM; another model in the same process costs two seconds on CPU, where
the engine's core runs in the process too and is made anew, and on a GPU the time to reload weights, which `parity` checks: if
an engine that has reloaded is not the new model, a fresh one is started, and from then on always.

All calls of vLLM are made by one thread. Between the engine's steps it takes up whatever has been asked for meanwhile, so that
the requests of many callers share each step.
"""

from __future__ import annotations

import gc
import logging
import os
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from redi_ray.cluster.notices import tell
from redi_ray.config.prompts import PromptSettings
from redi_ray.config.resources import EngineSettings
from redi_ray.config.tools import SandboxSettings
from redi_ray.data.sample.engine_block import Block
from redi_ray.data.sample.engine_start import Held, computed_in, kwargs_of, room_for_check, small_files, start_vllm
from redi_ray.data.sample.engine_turns import TurnBlock
from redi_ray.data.sample.engine_words import WordsBlock
from redi_ray.data.sample.parity import Parity, parity
from redi_ray.data.sample.samples import BEGUN, REQUEST, Sampling
from redi_ray.store import storage
from redi_ray.tools.sandbox import Sandbox

FOLDER = "redi_ray-engine-"


class EngineDied(RuntimeError):
    """vLLM has failed: what it worked on has to be asked of another engine."""


class NotWanted(RuntimeError):
    """What was asked for has been given up by those who asked."""


@dataclass(frozen=True)
class Swap:
    """How the engine came to its weights."""

    how: Literal["kept", "reloaded", "started"]
    seconds: float
    parity: Parity | None = None


class Engine:
    """vLLM on a thread of its own. Methods give futures; the model of a request is that of the last `use` before it."""

    def __init__(self) -> None:
        self.llm: Any = None
        self.held: Held | None = None
        self.can_reload = True
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._open: dict[str, Callable[[Any], None]] = {}
        """Request -> what is called with its final output."""
        self._blocks: set[Block] = set()
        self._ids = count()
        self._folder = own_folder()
        self._sandbox: Sandbox | None = None
        threading.Thread(target=self._run, daemon=True, name="engine").start()

    # ---------------------------------------------------------------------------------------------------- what is asked for

    def holds(self, model: str, settings: EngineSettings) -> bool:
        """Whether it would be kept as it is."""
        return self.held is not None and (self.held.model, kwargs_of(self.held.settings)) == (
            model,
            kwargs_of(settings),
        )

    def use(self, model: str, settings: EngineSettings, prompts: Sequence[Sequence[int]] = ()) -> Future[Swap]:
        """Have this model (a Hugging Face folder, local or s3://, or a name on the hub). prompts: token ids for the check of
        reloaded weights; without any, nothing is reloaded."""
        return self._call(partial(self._use, model, settings, prompts))

    def submit(self, requests: pa.Table, sampling: Sampling, prompt: PromptSettings) -> Future[pa.Table]:
        """REQUEST rows -> COMPLETION rows in the same order. EngineDied where vLLM fails, which then goes on with nothing, or has
        failed since `use`."""
        held, llm = self.held, self.llm
        if held is None:
            raise EngineDied("vLLM has failed on what others had asked")
        names = [name for name in (*REQUEST.names, BEGUN) if name in requests.column_names]
        rows = requests.select(names).to_pylist()
        if sampling.tools is None:
            block = (WordsBlock if sampling.words else Block)(rows, held, sampling, prompt)
        else:
            room = llm.llm_engine.vllm_config.model_config.max_model_len
            block = TurnBlock(rows, held, sampling, prompt, self._tools(sampling.tools.sandbox), room)
            block.later, block.ask = self._call, partial(self._add, block)
        self._call(partial(self._enter, block, block.asked())).add_done_callback(block.fail_with)
        return block.future

    def abort(self) -> Future[None]:
        """Give up what is being worked on; those who wait for it get NotWanted."""
        return self._call(self._abort)

    def close(self) -> Future[None]:
        """Free the engine's memory and end its processes; the thread stays for another `use`."""
        return self._call(self._close)

    def _tools(self, settings: SandboxSettings) -> Sandbox:
        """The sandbox beside the engine. Raises SandboxError."""
        if self._sandbox is None or self._sandbox.settings != settings:
            if self._sandbox is not None:
                self._sandbox.close()
            self._sandbox = None
            self._sandbox = Sandbox(settings).start()
        return self._sandbox

    # -------------------------------------------------------------------------------------------------------- on the thread

    def _call(self, function: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()

        def job() -> None:
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

        self._jobs.put(job)
        return future

    def _run(self) -> None:
        while True:
            while not self._open or not self._jobs.empty():
                self._jobs.get()()
            try:
                outputs = self.llm.llm_engine.step()
            except BaseException as error:
                self._fail(EngineDied(f"vLLM failed: {type(error).__name__}: {error}"))
                self.held = None
                continue
            for output in outputs:
                if output.finished:
                    self._open.pop(output.request_id)(output)

    def _enter(self, block: Block, asked: list[tuple[list[int], Any]]) -> None:
        self._blocks = {open_block for open_block in self._blocks if not open_block.future.done()} | {block}
        for place, (ids, parameters) in enumerate(asked):
            self._add(block, place, ids, parameters)

    def _add(self, block: Block, place: int, ids: list[int], parameters: Any) -> None:
        if block.future.done():  # given up while a tool ran
            return
        name = str(next(self._ids))
        try:
            self.llm.llm_engine.add_request(name, {"prompt_token_ids": ids}, parameters)
            self._open[name] = partial(self._answer, block, place)
        except refusals() as error:
            block.refuse(place, error)

    def _answer(self, block: Block, place: int, output: Any) -> None:
        try:
            block.answer(place, output)
        except Exception as error:  # it would end this thread, and all would wait for ever
            block.fail(error)

    def _fail(self, error: EngineDied | NotWanted) -> None:
        self._open.clear()
        for block in self._blocks:
            block.fail(error)
        self._blocks.clear()

    def _abort(self) -> None:
        if self._open:
            self.llm.llm_engine.abort_request(list(self._open))
        self._fail(NotWanted("what this engine was asked for is not wanted any more"))

    # ------------------------------------------------------------------------------------------------- one model for another

    def _use(self, model: str, settings: EngineSettings, prompts: Sequence[Sequence[int]]) -> Swap:
        started = time.monotonic()
        if self.holds(model, settings):
            return Swap("kept", 0.0)
        wanted = Held(model, self._local(model), settings)
        check = self._reload(wanted, prompts) if self._may_reload(wanted) and prompts else None
        if check is None or not check.holds(computed_in(wanted)):
            if check is not None:
                tell(
                    f"reloading weights into vLLM failed the check ({check}): a fresh engine for every model",
                    logging.WARNING,
                )
                self.can_reload, check = False, None
            self._close()
            gc.freeze()  # vLLM collects garbage five times while it starts, over all that has been imported
            self.llm = start_vllm(wanted.path, settings)
        self.held = wanted
        self._forget_others()
        return Swap("started" if check is None else "reloaded", round(time.monotonic() - started, 1), check)

    def _may_reload(self, wanted: Held) -> bool:
        """Whether nothing but weights differs, the device takes new ones, and there is memory for the check."""
        held = self.held
        return (
            held is not None
            and self.can_reload
            and wanted.settings.device != "cpu"
            and kwargs_of(held.settings) == kwargs_of(wanted.settings)
            and small_files(held.path) == small_files(wanted.path) != {}
            and room_for_check(wanted.path)
        )

    def _reload(self, wanted: Held, prompts: Sequence[Sequence[int]]) -> Parity | None:
        """Reload and check; None if vLLM itself refused."""
        assert self.held is not None
        previous, self.held = self.held.path, None  # whatever happens, it is not that model any more
        try:
            self.llm.collective_rpc("reload_weights", kwargs={"weights_path": wanted.path})
            self.llm.reset_prefix_cache()
            return parity(self.llm, wanted.path, previous, prompts, wanted.settings.trusts_code)
        except Exception as error:  # whatever it is, a fresh engine is the way on
            tell(f"vLLM could not reload weights ({type(error).__name__}: {error})", logging.WARNING)
            self.can_reload = False
            return None

    def _local(self, model: str) -> str:
        if not model.startswith("s3://"):
            return model
        folder = self._folder / storage.content_hash(model)[:16]
        if not folder.exists():
            part = folder.with_suffix(".part")  # a download that fails is not taken for the model
            shutil.rmtree(part, ignore_errors=True)
            storage.download(model, part)
            part.rename(folder)
        return str(folder)

    def _forget_others(self) -> None:
        """Delete the copies of models that the engine no longer holds."""
        for folder in self._folder.iterdir():
            if self.held is None or str(folder) != self.held.path:
                shutil.rmtree(folder, ignore_errors=True)

    def _close(self) -> None:
        if self.llm is None:
            return
        self._abort()
        self.llm.llm_engine.engine_core.shutdown()
        self.llm = self.held = None
        gc.collect()


def own_folder() -> Path:
    """An empty folder for this process, whose name has its number; those of processes that are gone are deleted."""
    place = Path(tempfile.gettempdir())
    for left in place.glob(f"{FOLDER}*-*"):
        owner = left.name.removeprefix(FOLDER).partition("-")[0]
        if owner.isdecimal() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-"))


def refusals() -> tuple[type[Exception], ...]:
    """Errors that a request itself is to blame for."""
    from vllm.exceptions import VLLMClientError

    return (ValueError, VLLMClientError)
