"""Where an exchange answers, by its state folder: found while it runs, waited for while it starts, and nothing that was left behind."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from isthmus.client.address import ADDRESS, LOCK, announced, standing
from isthmus.kit.filelock import held

KEY = "ab" * 32


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        raw = json.dumps({"public_key": KEY}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *words: object) -> None:
        return None


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    made = HTTPServer(("127.0.0.1", 0), Answer)
    yield made
    made.server_close()


def url_of(server: HTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


def test_it_stands_while_it_answers_with_its_own_key(tmp_path: Path, server: HTTPServer) -> None:
    assert standing(tmp_path) is None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with announced(tmp_path, url_of(server), KEY):
        assert standing(tmp_path) == (url_of(server), KEY)
    assert standing(tmp_path) is None and not (tmp_path / ADDRESS).exists()
    with announced(tmp_path, url_of(server), "cd" * 32):
        assert standing(tmp_path) is None, "another exchange answers at that address"
    server.shutdown()


def test_one_that_is_starting_is_waited_for_and_a_dead_one_is_not(tmp_path: Path) -> None:
    late = HTTPServer(("127.0.0.1", 0), Answer, bind_and_activate=False)
    late.server_bind()
    with announced(tmp_path, url_of(late), KEY):
        began_s = time.monotonic()
        assert standing(tmp_path) is None and time.monotonic() - began_s < 5, "nobody holds the folder"
        with held(tmp_path / LOCK) as mine:
            assert mine

            def start() -> None:
                time.sleep(0.4)
                late.server_activate()
                late.handle_request()

            threading.Thread(target=start, daemon=True).start()
            assert standing(tmp_path) == (url_of(late), KEY)
    late.server_close()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"url": "http://127.0.0.1:9"}', "x" * 9000, '{"url": "no url", "public_key": "ab"}'])
def test_a_file_that_says_nothing_counts_for_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / ADDRESS).write_text(text, encoding="utf-8")
    assert standing(tmp_path) is None
