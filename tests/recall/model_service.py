"""A real HTTP server on this machine that answers as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ModelService:
    """What it was asked, and how it answers: each reply is used once, the last one for ever."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.replies: list[Callable[[Any], Reply]] = []
        self.hang = threading.Event()

    def answer(self, path: str, headers: dict[str, str], body: Any) -> Reply:
        self.asked.append((path, headers, body))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        return reply(body)


class Reply:
    """A status, headers and the parts of a body; before each part after the first it waits."""

    def __init__(
        self, status: int, body: Any = None, *, drip: bool = False, **headers: str
    ) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status = status
        self.parts = [raw[i : i + 1] for i in range(len(raw))] if drip else [raw]
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@contextmanager
def model_service() -> Iterator[ModelService]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    service = ModelService(server.server_address[1])
    server.service = service  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service
    finally:
        service.hang.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Any

    def do_POST(self) -> None:
        service: ModelService = self.server.service
        raw = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        reply = service.answer(self.path, headers, json.loads(raw))
        if reply.status == 0:  # hang until the test is over
            service.hang.wait(30)
            return
        try:
            self._write(reply, service)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _write(self, reply: Reply, service: ModelService) -> None:
        self.send_response(reply.status)
        self.send_header("content-length", str(sum(map(len, reply.parts))))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        for i, part in enumerate(reply.parts):
            if i:
                service.hang.wait(0.05)
            self.wfile.write(part)
            self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: tests are silent."""
