"""Real processes at the price of a fork, from a parent that imported all and opened nothing.

The zygote forks one child per job. The child answers through a pipe that only it holds, so the
pipe ends when the process does. Killing goes through the zygote too: it waits for the death, and
so the child's locks are gone when `kill` returns.
"""

from __future__ import annotations

import array
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, Final

WAIT_SECONDS: Final = 60.0
"""How long an answer may take before a child counts as hung."""


class Child:
    """A process that runs one job, and what it has said so far."""

    def __init__(self, zygote: Zygote, pid: int, answers: int) -> None:
        self.pid = pid
        self._zygote = zygote
        self._answers = answers
        self._lines: list[str] = []
        self._rest = b""
        self._ended = False

    def wait_for_answers(self, count: int = 1, seconds: float = WAIT_SECONDS) -> bool:
        """Wait until so many lines were said; False when the process ended or fell silent."""
        deadline = monotonic() + seconds
        while len(self._lines) < count and not self._ended:
            left = deadline - monotonic()
            if left <= 0 or not select.select([self._answers], [], [], left)[0]:
                return False
            self._take()
        return len(self._lines) >= count

    def said(self) -> int:
        """How many lines the process has said until now."""
        while not self._ended and select.select([self._answers], [], [], 0)[0]:
            self._take()
        return len(self._lines)

    def signal(self, number: int) -> None:
        """Send a signal that does not end the process."""
        os.kill(self.pid, number)

    def kill(self) -> list[str]:
        """Kill without warning; every whole line that the process had said."""
        self._zygote.ask({"kill": self.pid})
        return self.finish()

    def finish(self) -> list[str]:
        """Read to the end of the process, and reap it; every line."""
        while not self._ended:
            self._take()
        os.close(self._answers)
        self._zygote.ask({"reap": self.pid})
        return self._lines

    def _take(self) -> None:
        data = os.read(self._answers, 65_536)
        self._ended = not data
        *whole, self._rest = (self._rest + data).split(b"\n")
        self._lines.extend(line.decode() for line in whole)


class Zygote:
    """The parent of all children; ``close`` ends it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "OPENBLAS_NUM_THREADS": "1",  # a process with threads is not safe to fork
        }
        command = [sys.executable, "-m", "soak.zygote", str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=environment)
        theirs.close()

    def start(self, job: str, *, gate: int | None = None, **arguments: Any) -> Child:
        """Fork a child for a job of `soak.jobs`; it waits for the end of ``gate`` to begin."""
        reader, writer = os.pipe()
        descriptors = [writer] if gate is None else [writer, gate]
        pid = self.ask({"job": job, "arguments": arguments}, descriptors)
        os.close(writer)
        return Child(self, pid, reader)

    def ask(self, message: dict[str, Any], descriptors: list[int] | None = None) -> Any:
        """One question, one answer."""
        body = json.dumps(message).encode()
        if descriptors:
            socket.send_fds(self._socket, [body], descriptors)
        else:
            self._socket.sendall(body)
        answer = self._socket.recv(4096)
        if not answer:
            raise RuntimeError("the parent of the test processes has ended")
        return json.loads(answer)

    def close(self) -> None:
        """End the zygote and whatever child is left."""
        self._socket.close()
        self._process.wait()


@contextmanager
def zygote() -> Iterator[Zygote]:
    """A zygote for the block."""
    parent = Zygote()
    try:
        yield parent
    finally:
        parent.close()


def serve(channel: socket.socket, jobs: dict[str, Callable[..., None]]) -> None:
    """Fork, kill and reap as asked, until the other side is gone."""
    alive: set[int] = set()
    while True:
        body, descriptors = _receive(channel)
        if not body:
            break
        message = json.loads(body)
        if "job" in message:
            pid = os.fork()
            if pid == 0:
                channel.close()
                _run(jobs[message["job"]], descriptors, message["arguments"])
            alive.add(pid)
            for descriptor in descriptors:
                os.close(descriptor)
            answer = pid
        else:
            answer = _end(message, alive)
        channel.sendall(json.dumps(answer).encode())
    for pid in alive:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    descriptors = array.array("i")
    space = socket.CMSG_SPACE(4 * descriptors.itemsize)
    body, ancillary, _, _ = channel.recvmsg(65_536, space)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return body, list(descriptors)


def _end(message: dict[str, Any], alive: set[int]) -> int:
    pid = int(message.get("kill") or message["reap"])
    if pid not in alive:
        return 0
    if "kill" in message:
        os.kill(pid, signal.SIGKILL)
    alive.discard(pid)
    return os.waitpid(pid, 0)[1]


def _run(job: Callable[..., None], descriptors: list[int], arguments: dict[str, Any]) -> None:
    """The child: wait at the gate if there is one, do the job, and never return."""
    answers = descriptors[0]

    def say(line: str) -> None:
        # One write of a pipe's atomic size: a line is heard whole or not at all.
        os.write(answers, line.encode()[:4000] + b"\n")

    status = 1
    try:
        if len(descriptors) > 1:
            os.read(descriptors[1], 1)
        job(say, **arguments)
        status = 0
    except BaseException as error:  # noqa: BLE001 - the parent is told, whatever it was
        say(f"error {type(error).__name__}: {error}")
    finally:
        os._exit(status)


def main() -> None:
    """Warm up, then serve the descriptor that the command line names."""
    from soak.jobs import JOBS

    serve(socket.socket(fileno=int(sys.argv[1])), JOBS)


if __name__ == "__main__":
    main()
