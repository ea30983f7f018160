"""Half a network: a server in place of the hub that never answers, refuses, or breaks off. Nothing waits for ever."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from reproduce.data import hub
from reproduce.errors import OfeError

BROKEN_OFF = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{"sha":'
MOST_REQUESTS = 8
"""The library may repeat a request 5 times, and may ask one or two more questions of its own."""


def refusal(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nRetry-After: 0\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


class Server:
    """Accepts every connection and gives each the same answer; None: no answer, the connection stays open."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer, self.connections = answer, list[socket.socket]()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:  # the test has ended
                return
            self.connections.append(connection)
            if self.answer is not None:
                connection.recv(65536)
                connection.sendall(self.answer)
                connection.close()

    def close(self) -> None:
        self.listening.close()
        for connection in self.connections:
            connection.close()


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes | None], Server]]:
    """Starts a server to which all questions to the hub go; the hub's cache is empty."""
    from huggingface_hub import constants, hf_api

    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "PATIENCE_S", 0.5)
    started = list[Server]()

    def start(answer: bytes | None) -> Server:
        server = Server(answer)
        started.append(server)
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(hf_api.api, "endpoint", server.address)
        return server

    yield start
    for server in started:
        server.close()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "timed out"),
        (refusal("500 Internal Server Error"), "the server answered with the status 500"),
        (refusal("429 Too Many Requests"), "the server answered with the status 429"),
        (BROKEN_OFF, "peer closed connection"),
    ],
)
def test_a_hub_that_gives_no_whole_answer_is_given_up(
    serve: Callable[[bytes | None], Server], answer: bytes | None, reason: str
) -> None:
    server, begun = serve(answer), time.monotonic()
    with pytest.raises(OfeError, match="a/b cannot be reached on the Hugging Face hub") as caught:
        hub.find_snapshot("a/b", "main", copy="a copy of it", offline=False)
    assert time.monotonic() - begun < 60, "the wait has no bound"
    assert reason in caught.value.message
    assert "set data.path to a copy of it" in str(caught.value.hint)
    assert "copy OFE_HOME/data" in str(caught.value.hint)
    assert 1 <= len(server.connections) <= MOST_REQUESTS


def test_offline_asks_nobody(serve: Callable[[bytes | None], Server]) -> None:
    server = serve(None)
    with pytest.raises(OfeError, match="a/b is not in the cache of the Hugging Face hub") as caught:
        hub.find_snapshot("a/b", "main", copy="a copy of it", offline=True)
    assert "set data.path to a copy of it" in str(caught.value.hint)
    assert not server.connections


def test_a_proxy_that_is_down_is_named_and_its_password_is_not(
    serve: Callable[[bytes | None], Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    serve(None)
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]  # nobody listens there once it is closed
    monkeypatch.setenv("HTTP_PROXY", f"http://me:secret@127.0.0.1:{port}")
    huggingface_hub.close_session()
    with pytest.raises(OfeError) as caught:
        hub.find_snapshot("a/b", "main", copy="a copy of it", offline=False)
    huggingface_hub.close_session()
    assert "HTTP_PROXY" in str(caught.value.hint)
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"
