"""The WSGI middleware: whatever the server does, a request has one view and leaves nothing open."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar, copy_context
from io import StringIO
from typing import Any
from wsgiref.handlers import SimpleHandler
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest
from sqlalchemy.orm import Session

from coherent_cache.wsgi import CacheMiddleware
from tests.workers import Worker, page

only_python = pytest.mark.on("sqlite-wal")  # the database plays no part in it


class Exchange:
    """A request as a server handles it, step by step."""

    def __init__(self, application: Any) -> None:
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.written: list[bytes] = []
        self.environ: dict[str, Any] = {"wsgi.file_wrapper": FileWrapper}
        setup_testing_defaults(self.environ)
        self.body = application(self.environ, self.start_response)

    def start_response(self, status: str, headers: Any, exc_info: Any = None) -> Any:
        self.status, self.headers = status, headers
        return self.written.append

    def close(self) -> None:
        if hasattr(self.body, "close"):
            self.body.close()


def ok(start_response: Any) -> Any:
    return start_response("200 OK", [("Content-Type", "text/plain")])


def text(names: Iterable[str]) -> bytes:
    return ",".join(sorted(names)).encode()


class Streaming:
    """An application whose body reads cached attributes, block by block, and when it is closed."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.closed: list[bytes] = []
        self.views: list[Any] = []

    def __call__(self, environ: Any, start_response: Any) -> Any:
        ok(start_response)
        self.views.append(self.worker.cache_manager.view)
        return self

    def __iter__(self) -> Iterator[bytes]:
        self.views.append(self.worker.cache_manager.view)
        for _ in range(3):
            yield text(self.worker.wiki.names)

    def close(self) -> None:
        self.views.append(self.worker.cache_manager.view)
        self.closed.append(text(self.worker.wiki.names))


def test_case_13_streaming_body_sees_one_view_until_it_is_closed(
    worker: Worker, other: Worker
) -> None:
    """1. The view function returns a generator that reads `names` in each block.
    2. After the first block another process commits a new page.
    3. The rest of the body, and its close, still see what the first block saw (G2).
    4. The next request sees the page (G1)."""
    application = Streaming(worker)
    exchange = Exchange(CacheMiddleware(application, worker.cache_manager))
    body = iter(exchange.body)
    assert next(body) == b""
    other.write("Front", "Hello")
    assert next(body) == b""
    exchange.close()
    assert application.closed == [b""]
    assert len({id(view) for view in application.views}) == 1
    assert application.views[0] is not None
    later = Exchange(CacheMiddleware(application, worker.cache_manager))
    assert next(iter(later.body)) == b"Front"


def test_case_13_streaming_body_that_writes_while_it_is_sent(worker: Worker, other: Worker) -> None:
    """A transaction that the body opens is the request's: its `del` waits for its commit."""

    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        ok(start_response)
        with Session(worker.engine) as session:
            session.execute(page.insert().values(name="Front", text="Hello", version=0))
            yield b""
            del worker.wiki.names
            yield text(worker.wiki.names)
            session.commit()
        yield text(worker.wiki.names)

    assert other.wiki.names == frozenset()
    body = iter(Exchange(CacheMiddleware(application, worker.cache_manager)).body)
    next(body)
    assert next(body) == b"Front"
    if worker.database.kind != "sqlite-journal":  # where readers wait for the writer
        assert other.wiki.names == frozenset()
    assert next(body) == b"Front"
    assert other.wiki.names == {"Front"}


@only_python
def test_case_13_streaming_in_another_thread(worker: Worker, other: Worker) -> None:
    """The server calls the application in one thread, iterates in a second, closes in a third."""
    application = Streaming(worker)
    exchanges: list[Exchange] = []
    blocks: list[bytes] = []
    in_thread(
        lambda: exchanges.append(Exchange(CacheMiddleware(application, worker.cache_manager)))
    )
    (exchange,) = exchanges
    in_thread(lambda: blocks.append(next(iter(exchange.body))))
    other.write("Front", "Hello")
    in_thread(lambda: blocks.extend(exchange.body))
    in_thread(exchange.close)
    assert blocks == [b"", b"", b""]
    assert application.closed == [b""]
    assert len({id(view) for view in application.views}) == 1


@only_python
def test_the_view_ends_with_the_close(worker: Worker, other: Worker) -> None:
    """What the request left running (a task, a thread with a copy of its context) goes on
    outside of it."""
    left_running = []

    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        ok(start_response)
        assert worker.wiki.names == frozenset()
        left_running.append(copy_context())
        yield b"1"

    def names() -> frozenset[str]:
        return left_running[0].run(lambda: worker.wiki.names)

    exchange = Exchange(CacheMiddleware(application, worker.cache_manager))
    assert list(exchange.body) == [b"1"]
    other.write("Front", "Hello")
    assert names() == frozenset()
    exchange.close()
    assert names() == {"Front"}


@only_python
def test_a_body_that_is_never_closed_leaves_nothing_open(worker: Worker, other: Worker) -> None:
    left_running = []

    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        ok(start_response)
        assert worker.wiki.names == frozenset()
        left_running.append(copy_context())
        yield b"1"
        yield b"2"

    exchange = Exchange(CacheMiddleware(application, worker.cache_manager))
    assert next(iter(exchange.body)) == b"1"
    assert worker.cache_manager.view is None
    other.write("Front", "Hello")
    exchange.body = []  # the client went, and the server forgot
    assert left_running[0].run(lambda: worker.wiki.names) == {"Front"}


@only_python
def test_the_servers_own_context_is_not_touched(worker: Worker) -> None:
    variable: ContextVar[str] = ContextVar("variable", default="the server's")
    seen: list[str] = []

    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        variable.set("the application's")
        ok(start_response)
        Session(worker.engine).begin()  # never ended
        yield text(worker.wiki.names)
        seen.append(variable.get())
        yield b""

    exchange = Exchange(CacheMiddleware(application, worker.cache_manager))
    before = dict(copy_context().items())
    for _ in exchange.body:
        assert variable.get() == "the server's"
        assert worker.cache_manager.view is None
    assert seen == ["the application's"]
    exchange.close()
    assert dict(copy_context().items()) == before


class FailureError(Exception):
    pass


def fails_at_once(environ: Any, start_response: Any) -> list[bytes]:
    raise FailureError


def fails_to_iterate(environ: Any, start_response: Any) -> Any:
    class Body:
        def __iter__(self) -> Iterator[bytes]:
            raise FailureError

    ok(start_response)
    return Body()


def fails_in_the_body(environ: Any, start_response: Any) -> Iterator[bytes]:
    ok(start_response)
    yield b"1"
    raise FailureError


def fails_to_close(environ: Any, start_response: Any) -> Any:
    class Body:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"1"])

        def close(self) -> None:
            raise FailureError

    ok(start_response)
    return Body()


@only_python
@pytest.mark.parametrize(
    "application", [fails_at_once, fails_to_iterate, fails_in_the_body, fails_to_close]
)
def test_a_failure_anywhere_reaches_the_server_and_ends_the_view(
    worker: Worker, other: Worker, application: Any
) -> None:
    left_running = []

    def reading(environ: Any, start_response: Any) -> Any:
        assert worker.wiki.names == frozenset()
        left_running.append(copy_context())
        return application(environ, start_response)

    def serve() -> None:
        exchange = Exchange(CacheMiddleware(reading, worker.cache_manager))
        try:
            list(exchange.body)
        finally:
            exchange.close()

    with pytest.raises(FailureError) as caught:
        serve()
    other.write("Front", "Hello")
    assert worker.cache_manager.view is None
    # The traceback still refers to every frame of the request: it is not the collector's doing.
    assert caught.tb is not None
    assert left_running[0].run(lambda: worker.wiki.names) == {"Front"}


@only_python
def test_start_response_that_fails(worker: Worker) -> None:
    class Refuses(Exchange):
        def start_response(self, status: str, headers: Any, exc_info: Any = None) -> Any:
            raise FailureError

    with pytest.raises(FailureError):
        Refuses(CacheMiddleware(Streaming(worker), worker.cache_manager))
    assert worker.cache_manager.view is None


@only_python
def test_a_client_that_goes_closes_the_body_early(worker: Worker) -> None:
    application = Streaming(worker)
    exchange = Exchange(CacheMiddleware(application, worker.cache_manager))
    next(iter(exchange.body))
    exchange.close()
    assert application.closed == [b""]


@only_python
def test_a_list_and_the_servers_own_file_go_through_as_they_are(
    worker: Worker, tmp_path: Any
) -> None:
    """A list has a length that servers look at; a file wrapper they recognise and send by
    the kernel.  The view is over then."""
    (tmp_path / "file").write_bytes(b"content")
    left_running = []
    exchanges: list[Exchange] = []

    def serve(make: Callable[[Any], Any]) -> Any:
        def application(environ: Any, start_response: Any) -> Any:
            ok(start_response)
            left_running.append(copy_context())
            return make(environ)

        exchanges.append(Exchange(CacheMiddleware(application, worker.cache_manager)))
        return exchanges[-1].body

    assert serve(lambda environ: [b"1", b"2"]) == [b"1", b"2"]
    assert serve(lambda environ: (b"1",)) == (b"1",)
    with open(tmp_path / "file", "rb") as file:
        assert type(serve(lambda environ: environ["wsgi.file_wrapper"](file))) is FileWrapper
    for context in left_running:
        assert context.run(lambda: worker.cache_manager.view) is None


@only_python
def test_a_sized_body_keeps_its_length(worker: Worker) -> None:
    """wsgiref sets Content-Length for a body of one block, and only if len() says so."""

    class Body:
        def __init__(self, blocks: list[bytes]) -> None:
            self.blocks = blocks

        def __len__(self) -> int:
            return len(self.blocks)

        def __iter__(self) -> Iterator[bytes]:
            return iter(self.blocks)

    def serve(body: Any) -> Any:
        return Exchange(CacheMiddleware(lambda *_: body, worker.cache_manager)).body

    assert len(serve(Body([b"1", b"2"]))) == 2
    assert not hasattr(serve(iter([b"1"])), "__len__")
    assert list(serve(Body([b"1", b"2"]))) == [b"1", b"2"]


@only_python
def test_the_write_callable(worker: Worker) -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        write = ok(start_response)
        write(b"written: " + text(worker.wiki.names))
        return []

    worker.write("Front", "Hello")
    exchange = Exchange(CacheMiddleware(application, worker.cache_manager))
    assert exchange.written == [b"written: Front"]


@only_python
def test_it_keeps_to_the_protocol(worker: Worker) -> None:
    """By the standard library's validator on both sides, under its server."""

    def application(environ: Any, start_response: Any) -> Iterator[bytes]:
        ok(start_response)
        yield b"names: "
        yield text(worker.wiki.names)

    worker.write("Front", "Hello")
    checked = validator(CacheMiddleware(validator(application), worker.cache_manager))
    sent = _Collected()
    environ: dict[str, Any] = {}
    setup_testing_defaults(environ)
    environ["QUERY_STRING"] = ""
    errors = StringIO()
    SimpleHandler(environ["wsgi.input"], sent, errors, environ).run(checked)
    assert errors.getvalue() == ""
    assert sent.content.endswith(b"names: Front")


@only_python
def test_the_manager_may_be_made_later(worker: Worker) -> None:
    middleware = CacheMiddleware(Streaming(worker), lambda: worker.cache_manager)
    assert next(iter(Exchange(middleware).body)) == b""


class _Collected:
    def __init__(self) -> None:
        self.content = b""

    def write(self, block: bytes) -> None:
        self.content += block

    def flush(self) -> None:
        pass


def in_thread(function: Callable[[], object]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
