"""A Scorer in a worker process of its own, so that a crash of the runtime ends a request and not the service."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isthmus.contracts.errors import EngineError, EngineTimeoutError, InputError, IsthmusError, ModelFileError
from isthmus.foundry.engine import Forecaster, Scorer, is_forecast
from isthmus.foundry.export import parsed
from isthmus.foundry.runtime import Given, checked_given

START_TIMEOUT_S = 60.0
REQUEST_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0
TRIES = 2
_KINDS: dict[str, type[IsthmusError]] = {"input": InputError, "model": ModelFileError, "engine": EngineError}


def _failure(error: IsthmusError) -> tuple[str, str, str]:
    kind = "input" if isinstance(error, InputError) and not isinstance(error, ModelFileError) else "model"
    return kind, error.message, error.next_step


def _answered(scorer: Scorer | Forecaster, given: Given, heat: bool) -> Any:
    if isinstance(scorer, Forecaster):
        return scorer.foretold(given)
    return scorer.heats(given) if heat else scorer.judged(given)


def _work(pipe: Connection, artefact: bytes, threads: int) -> None:
    """The worker's life: load, say ready, answer requests until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        scorer = Forecaster(artefact, threads) if is_forecast(parsed(artefact)) else Scorer(artefact, threads)
        pipe.send(("ready", None))
        while True:
            given, heat = pipe.recv()
            try:
                answer: tuple[str, Any] = ("answer", _answered(scorer, given, heat))
            except IsthmusError as error:
                answer = ("error", _failure(error))
            except MemoryError:
                answer = ("error", ("engine", "the model's worker has not enough memory for these records", "send fewer or smaller ones"))
            pipe.send(answer)
    except IsthmusError as error:
        pipe.send(("error", _failure(error)))
    except (EOFError, OSError):
        return


class EngineProcess:
    """Request and response over a pipe to one worker, one request at a time; safe to call from several threads.

    A worker that died is started again and the request repeated once (scoring has no side effect). One that does not answer in
    timeout_s is ended. Raises at construction when the artefact cannot be loaded.
    """

    def __init__(self, artefact: bytes, threads: int = 1, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self._artefact, self._threads, self._timeout_s = artefact, threads, timeout_s
        self._lock = threading.Lock()
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._closed = False
        self.starts = 0
        with self._lock:
            self._start()

    @property
    def pid(self) -> int | None:
        """Process id of the worker, or None when none runs."""
        process = self._process
        return process.pid if process is not None and process.is_alive() else None

    def _start(self) -> tuple[BaseProcess, Connection]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, self._artefact, self._threads), name="isthmus-engine", daemon=True)
        try:
            process.start()
        except OSError as error:
            ours.close()
            raise EngineError(f"the model's worker cannot be started: {error}", "free some memory or processes") from error
        finally:
            theirs.close()
        self._process, self._pipe = process, ours
        self.starts += 1
        try:
            self._exchanged(process, ours, None, START_TIMEOUT_S)
        except (EOFError, OSError) as error:
            self._end()
            raise EngineError("the model's worker died while it started", "look for lack of memory") from error
        except IsthmusError:
            self._end()
            raise
        return process, ours

    def _exchanged(self, process: BaseProcess, pipe: Connection, asked: tuple[Given, bool] | None, timeout_s: float) -> Any:
        """Sends (unless None) and receives. When time is up the worker is killed, which ends a blocked send or receive."""
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            process.kill()

        timer = threading.Timer(timeout_s, expire)
        timer.daemon = True
        timer.start()
        try:
            if asked is not None:
                pipe.send(asked)
            kind, value = pipe.recv()
        except (EOFError, OSError) as error:
            if not expired.is_set():
                raise
            self._end()
            raise EngineTimeoutError(
                f"the model's worker did not answer within {timeout_s:g} s", "try again, or send fewer images"
            ) from error
        finally:
            timer.cancel()
        if kind == "error":
            raise _KINDS[value[0]](value[1], value[2])
        return value

    def _end(self) -> None:
        pipe, process, self._pipe, self._process = self._pipe, self._process, None, None
        if pipe is not None:
            pipe.close()
        if process is not None:
            process.terminate()
            process.join(STOP_TIMEOUT_S)
            if process.is_alive():
                process.kill()
                process.join(STOP_TIMEOUT_S)

    def judged(self, given: Given) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """As `Scorer.judged`. Raises InputError, EngineTimeoutError, EngineError."""
        scores, verdicts = self._answer(given, heat=False)
        return scores, verdicts

    def foretold(self, given: Given) -> NDArray[np.float32]:
        """As `Forecaster.foretold`. Raises InputError, EngineTimeoutError, EngineError."""
        return np.asarray(self._answer(given, heat=False), dtype=np.float32)

    def heats(self, given: Given) -> NDArray[np.float32]:
        """As `Scorer.heats`. Raises as `judged` does."""
        return np.asarray(self._answer(given, heat=True))

    def _answer(self, given: Given, heat: bool) -> Any:
        checked_given(given)
        with self._lock:
            for _ in range(TRIES):
                if self._closed:
                    raise EngineError("the model's worker was stopped", "load the deployment again")
                process, pipe = self._process, self._pipe
                if process is None or pipe is None or not process.is_alive():
                    self._end()
                    process, pipe = self._start()
                try:
                    return self._exchanged(process, pipe, (given, heat), self._timeout_s)
                except (EOFError, OSError):
                    self._end()
        raise EngineError("the model's worker died twice on this request", "send other images; if it lasts, load the deployment again")

    def scores(self, given: Given) -> NDArray[np.float64]:
        """As `Scorer.scores`."""
        return self.judged(given)[0]

    def close(self) -> None:
        """Ends the worker; later requests are refused."""
        with self._lock:
            self._closed = True
            self._end()
