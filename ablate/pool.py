"""Local processes that train, several at a time; one that dies is replaced."""

import contextlib
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Job = Mapping[str, Any]
Answer = Mapping[str, Any]


class Worker:
  """One process of worker.py, and the job it has."""

  def __init__(
    self,
    place: int,
    log: pathlib.Path,
    settings: Mapping[str, Any],
    answers: "queue.Queue[tuple[Worker, str | None]]",
  ):
    self.place = place
    self.job: Job | None = None
    self._log = log
    self._logged = 0
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with log.open("ab") as stream:
      self._process = subprocess.Popen(
        [sys.executable, "-m", "ablax.ablate.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stream,
        env=environment,
        text=True,
        # Ctrl-C is the parent's, which asks for a save.
        start_new_session=True,
      )
    threading.Thread(target=self._hear, args=(answers,), daemon=True).start()
    self._tell(settings)

  def _hear(self, answers: Any) -> None:
    assert self._process.stdout is not None
    for line in self._process.stdout:
      answers.put((self, line))
    answers.put((self, None))

  def _tell(self, what: Mapping[str, Any]) -> None:
    assert self._process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # its end is heard of as well
      self._process.stdin.write(json.dumps(what) + "\n")
      self._process.stdin.flush()

  def begin(self, job: Job) -> None:
    self.job = job
    self._logged = self._log.stat().st_size
    self._tell(job)

  def end(self) -> str:
    """Closes its input, waits for it and says how it ended."""
    assert self._process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
      self._process.stdin.close()
    code = self._process.wait()
    said = f"exit code {code}"
    if code < 0:
      said = signal.Signals(-code).name
      said += ", out of memory?" if -code == signal.SIGKILL else ""
    with self._log.open("rb") as stream:
      stream.seek(self._logged)
      lines = stream.read().decode(errors="replace").split("\n")
    last = next((x.strip() for x in reversed(lines) if x.strip()), "")
    return f"{said}; logs/{self._log.name} ends with: {last[:200]}"

  def interrupt(self) -> None:
    """Asks it to save and to stop."""
    if self._process.poll() is None:
      self._process.send_signal(signal.SIGTERM)

  def kill(self) -> None:
    self._process.kill()


class Pool:
  """Hands out jobs to `n` workers.

  Args:
    settings: what each worker is told first, by its place.
    logs: a folder for their output.
  """

  def __init__(
    self,
    n: int,
    settings: Callable[[int], Mapping[str, Any]],
    logs: pathlib.Path,
  ):
    self._n = n
    self._settings = settings
    self._logs = logs
    self._answers: queue.Queue[tuple[Worker, str | None]] = queue.Queue()
    self._workers: list[Worker] = []
    self.stopping = False

  def _start(self, place: int) -> Worker:
    log = self._logs / f"worker-{place}.log"
    worker = Worker(place, log, self._settings(place), self._answers)
    self._workers.append(worker)
    return worker

  @property
  def running(self) -> list[Job]:
    return [worker.job for worker in self._workers if worker.job is not None]

  def run(
    self, jobs: Sequence[Job], tick: Callable[[], None]
  ) -> Iterator[tuple[Job, Answer]]:
    """Yields each job with its answer, as they end.

    A process that dies gives the answer `{"status": "died", "error": ...}`.

    Args:
      tick: called about twice a second meanwhile.
    """
    waiting = list(jobs)
    for place in range(min(self._n, len(waiting))):
      self._start(place).begin(waiting.pop(0))
    while self.running:
      try:
        worker, line = self._answers.get(timeout=0.5)
      except queue.Empty:
        tick()
        continue
      job = worker.job
      if line is None:
        died = worker.end()
        self._workers.remove(worker)
        if job is None:
          continue
        answer: Answer = {
          "status": "died",
          "error": f"the process died: {died}",
        }
        if waiting and not self.stopping:
          self._start(worker.place).begin(waiting.pop(0))
      else:
        assert job is not None, line
        answer, worker.job = json.loads(line), None
        if waiting and not self.stopping:
          worker.begin(waiting.pop(0))
      yield job, answer

  def stop(self) -> None:
    """Asks all workers to save and to stop; no job begins any more."""
    self.stopping = True
    for worker in self._workers:
      if worker.job is not None:
        worker.interrupt()

  def close(self) -> None:
    for worker in list(self._workers):
      if worker.job is not None:
        worker.kill()
      worker.end()
    self._workers.clear()
