"""One careful POST to a model service: deadline, retries, bounded answer, no secret in an error."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

import msgspec

from holdfast.core.errors import (
    Forbidden,
    HoldfastError,
    Invalid,
    Timeout,
    Unavailable,
)
from holdfast.core.extras import lacking

_Answer = TypeVar("_Answer")

_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Answers after which the same request may succeed."""
_ANSWER_LIMIT: Final = 64 * 1024 * 1024
"""Longest answer that is read, in bytes: 20 vectors of 16,000 numbers fit ten times."""


class Retries(msgspec.Struct, frozen=True, kw_only=True):
    """How often a transient failure is tried again, and how long to wait before."""

    tries: int = 3
    """In all, the first one included."""
    base: float = 1.0
    """Upper bound of the first wait in seconds; doubled for each further one."""
    cap: float = 10.0
    """Longest wait in seconds, also where the service asks for a longer one."""
    sleep: Callable[[float], object] = time.sleep
    uniform: Callable[[float, float], float] = random.uniform
    """Full jitter: the wait is drawn between 0 and its bound, so that clients do not align."""

    def wait(self, failed: int, asked: float | None) -> None:
        """Sleep after the ``failed``-th failure, at least as long as the service asked for."""
        bound = min(self.cap, self.base * 2.0 ** (failed - 1))
        self.sleep(min(self.cap, max(asked or 0.0, self.uniform(0.0, bound))))


class Gateway:
    """Posts JSON to one service. Safe to call from several threads, and after a fork.

    ``key_env`` names the environment variable that holds the key; it is read at each call, sent
    as a bearer token, and shown nowhere. Redirects are not followed: they would carry the key and
    the texts to a host that nobody chose.
    """

    def __init__(
        self,
        base_url: str,
        *,
        key_env: str | None,
        timeout: float,
        retries: Retries | None = None,
    ) -> None:
        """``base_url`` may end in a version ("/v1") or not; ``timeout`` is seconds per try.

        Raises ``Invalid`` for a URL that is not http or carries a user, and ``Unsupported``
        without the extra ``http``.
        """
        if not timeout > 0:
            raise Invalid("timeout", expected="seconds above 0", got=str(timeout))
        self.url = _versioned(base_url)
        self.host = urlsplit(self.url).netloc
        self._key_env = key_env
        self._timeout = timeout
        self._retries = retries or Retries()
        self._http = _import_http()
        self._client: tuple[int, Any] | None = None

    def __repr__(self) -> str:
        return f"Gateway({self.url!r}, key_env={self._key_env!r})"

    def post(self, path: str, body: object, kind: type[_Answer]) -> _Answer:
        """Return the answer decoded as ``kind``.

        Raises ``Forbidden`` when the key is refused, ``Invalid`` when the request is, ``Timeout``
        and ``Unavailable`` when the last try still failed for a passing reason, ``Unavailable``
        also for an answer that is not what was asked for.
        """
        content = msgspec.json.encode(body)
        headers = {"content-type": "application/json", **self._authorization()}
        raw = self._send_until(f"{self.url}{path}", content, headers)
        try:
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # The decoder's message may quote the answer, so it is not chained.
            raise Unavailable(
                f"{self.host} answered with something else than the documented JSON.",
                hint="Check that the base URL is that of a compatible service.",
            ) from None

    def close(self) -> None:
        """Close the connections; the gateway opens new ones when it is used again."""
        held, self._client = self._client, None
        if held is not None:
            held[1].close()

    def _authorization(self) -> dict[str, str]:
        if self._key_env is None:
            return {}
        key = os.environ.get(self._key_env, "").strip()
        if not key or not key.isascii() or not key.isprintable():
            raise Invalid(
                self._key_env,
                expected="a key in this environment variable",
                got="nothing" if not key else "unprintable characters",
            )
        return {"authorization": f"Bearer {key}"}

    def _connected(self) -> Any:
        """The process's own client: a connection shared across a fork would mix its answers."""
        held = self._client
        if held is None or held[0] != os.getpid():
            held = self._client = (
                os.getpid(),
                self._http.Client(timeout=self._timeout, follow_redirects=False),
            )
        return held[1]

    def _send_until(self, url: str, content: bytes, headers: dict[str, str]) -> bytes:
        failed = 0
        while True:
            try:
                return self._send(url, content, headers)
            except _Transient as error:
                failed += 1
                if failed >= self._retries.tries:
                    raise error.lasting from error.__cause__
                self._retries.wait(failed, error.asked)

    def _send(self, url: str, content: bytes, headers: dict[str, str]) -> bytes:
        started = time.monotonic()
        try:
            with self._connected().stream(
                "POST", url, content=content, headers=headers
            ) as response:
                _refuse(self.host, response)
                return self._read(response, started)
        except self._http.TimeoutException as error:
            raise _Transient(self._late()) from error
        except self._http.TransportError as error:
            lasting = Unavailable(f"{self.host} could not be reached.")
            raise _Transient(lasting) from error

    def _read(self, response: Any, started: float) -> bytes:
        # The client's timeout is for each read; a service that drips would never meet it.
        chunks, size = [], 0
        for chunk in response.iter_bytes():
            chunks.append(chunk)
            size += len(chunk)
            if size > _ANSWER_LIMIT:
                raise Unavailable(f"{self.host} answered with more than {_ANSWER_LIMIT} bytes.")
            if time.monotonic() - started > self._timeout:
                raise _Transient(self._late())
        return b"".join(chunks)

    def _late(self) -> Timeout:
        return Timeout(f"{self.host} did not answer within {self._timeout:g} s.")


def sendable(text: str) -> str:
    """Return ``text`` as a service takes it: no lone surrogates, and not empty."""
    return (text if text.isascii() else text.encode("utf-8", "replace").decode()) or " "


class _Transient(Exception):
    """A try that failed for a passing reason; ``lasting`` is what to raise after the last one."""

    def __init__(self, lasting: HoldfastError, asked: float | None = None) -> None:
        super().__init__(lasting.message)
        self.lasting = lasting
        self.asked = asked


def _refuse(host: str, response: Any) -> None:
    """Raise for every status but success. The body stays unread: it may repeat key or texts."""
    status = response.status_code
    if 200 <= status < 300:
        return
    if status in _TRANSIENT:
        lasting = Unavailable(f"{host} answered with status {status}.", status=status)
        raise _Transient(lasting, _asked_wait(response.headers.get("retry-after", "")))
    if status in (401, 403):
        raise Forbidden(f"{host} refused the key (status {status}).", status=status)
    if 300 <= status < 400:
        raise Unavailable(
            f"{host} answered with a redirect, which is not followed.",
            hint="Give the final base URL.",
            status=status,
        )
    raise Invalid(
        "request",
        expected=f"one that {host} accepts",
        got=f"status {status}",
        hint="Check the base URL, the model's name and the length of the texts.",
    )


def _asked_wait(header: str) -> float | None:
    """Seconds of a Retry-After header; its other form, a date, is left to the backoff."""
    return float(header) if header.isascii() and header.isdecimal() else None


def _versioned(base_url: str) -> str:
    parts = urlsplit(base_url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Invalid("base_url", expected="an http or https URL", got="another text")
    if parts.username is not None or parts.password is not None:
        raise Invalid(
            "base_url",
            expected="a URL without a user",
            got="one with",
            hint="Name the environment variable of the key in key_env.",
        )
    path = parts.path.rstrip("/")
    last = path.rpartition("/")[2]
    if not (last.startswith("v") and last[1:2].isdecimal()):
        path += "/v1"
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def _import_http() -> Any:
    try:
        import httpx2
    except ImportError as error:
        raise lacking(
            "A model service needs the package 'httpx2', which is not installed.", "http"
        ) from error
    return httpx2
