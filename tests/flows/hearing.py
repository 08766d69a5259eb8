"""A server that is not headstart's, and remembers what it was asked."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Heard:
    """Address of the API, the paths asked for, and the credentials that came along."""

    url: str
    paths: set[str] = field(default_factory=set)
    authorizations: set[str | None] = field(default_factory=set)


@contextmanager
def heard(port: int = 0, status: int = 200) -> Iterator[Heard]:
    """Answer every request with ``true`` and a status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.paths.add(self.path)
            found.authorizations.add(self.headers.get("Authorization"))
            self.send_response(status)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"true")

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        found = Heard(f"http://127.0.0.1:{server.server_port}/api")
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield found
        server.shutdown()
