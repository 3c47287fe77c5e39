"""``python -m benchmarks.load.one_worker``: the small site under Flask, a request at a time.

Reads "METHOD path" from its input, a line for each request, and writes what the request took: the
nanoseconds of this process's processor time, without a server around the application.
"""

from __future__ import annotations

import io
import sys
import time
from typing import Any

from .flask_app import create_app


def main() -> None:
    """Serve until the input ends."""
    application = create_app().wsgi_app
    for line in sys.stdin:
        method, path = line.split()
        environ = _environ(method, path)
        began = time.process_time_ns()
        body: Any = application(environ, _start_response)
        for _ in body:
            pass
        body.close()
        print(time.process_time_ns() - began, flush=True)


def _environ(method: str, path: str) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": False,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


def _start_response(status: str, headers: list[Any], error: Any = None) -> Any:
    if not status.startswith("200"):
        raise RuntimeError(status)


if __name__ == "__main__":
    main()
