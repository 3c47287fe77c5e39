"""The ASGI middleware, by itself and under Starlette and FastAPI."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextvars import copy_context
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from sqlalchemy.orm import Session
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from coherent_cache import CacheManager, cached
from coherent_cache.asgi import CacheMiddleware
from coherent_cache.memo import NO_MEMO
from tests.databases import Database
from tests.workers import Worker, metadata, page

from .server import Connection, elsewhere, get, run, text

only_python = pytest.mark.on("sqlite-wal")  # the database plays no part in it


def starlette(worker: Worker, *routes: Any) -> Starlette:
    application = Starlette(routes=routes)
    application.add_middleware(CacheMiddleware, manager=worker.cache_manager)
    return application


# Hard case 13


@pytest.mark.parametrize("kind", ["async", "threads"])
def test_case_13_streaming_body_sees_one_view(worker: Worker, other: Worker, kind: str) -> None:
    """1. The endpoint returns a StreamingResponse whose generator reads `names` in each block (a
       synchronous one runs in threads of a pool, each block perhaps in another).
    2. After the first block another process commits a new page.
    3. The rest of the body sees what the first block saw, and so does the background task.
    4. The next request sees the page."""
    background: list[bytes] = []

    async def asynchronous() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield text(worker.wiki.names)

    def synchronous() -> Iterator[bytes]:
        for _ in range(3):
            yield text(worker.wiki.names)

    def endpoint(request: Request) -> Response:
        return StreamingResponse(
            asynchronous() if kind == "async" else synchronous(),
            background=BackgroundTask(lambda: background.append(text(worker.wiki.names))),
        )

    application = starlette(worker, Route("/", endpoint))

    async def main() -> None:
        connection = Connection(application)
        assert await connection.block() == b"names: "
        await asyncio.to_thread(elsewhere, lambda: other.write("Front", "Hello"))
        assert await connection.rest() == b"names: names: "
        assert background == [b"names: "]
        assert (await get(application)).startswith(b"names: Front")

    run(main)


# Hard case 14


class Refusal(Exception):  # noqa: N818
    pass


def fastapi(worker: Worker, *, begun: bool) -> FastAPI:
    """Sync endpoints, whose session a sync dependency opens: each runs in a thread of the pool
    with a copied context, and they need not be the same thread."""
    application = FastAPI()
    application.add_middleware(CacheMiddleware, manager=worker.cache_manager)
    threads: dict[str, set[int]] = {"dependency": set(), "endpoint": set()}
    application.state.threads = threads

    def session() -> Iterator[Session]:
        threads["dependency"].add(threading.get_ident())
        with Session(worker.engine) as found:
            if begun:
                found.connection()
            else:
                found.begin()
            yield found

    @application.post("/write/{name}")
    def write(name: str, session: Session = Depends(session)) -> dict[str, list[str]]:  # noqa: B008
        threads["endpoint"].add(threading.get_ident())
        session.execute(page.insert().values(name=name, text="text", version=0))
        del worker.wiki.names
        own = sorted(worker.wiki.names)
        if name == "Refused":
            session.rollback()
            return {"own": own}
        application.state.before_commit()
        session.commit()
        return {"own": own, "after": sorted(worker.wiki.names)}

    @application.get("/names")
    def names() -> list[str]:
        return sorted(worker.wiki.names)

    return application


@pytest.mark.parametrize("begun", [True, False], ids=["connected", "not yet connected"])
def test_case_14_threads_of_a_pool_share_the_requests_transaction(
    worker: Worker, other: Worker, begun: bool
) -> None:
    """1. A dependency opens a session in one thread of the pool.
    2. The endpoint writes, and says `del`, in another one.
    3. Nobody else loads anything new before the commit: the `del` has found the session.
    4. After the commit everybody does, and after a rollback nobody."""
    application = fastapi(worker, begun=begun)
    seen: list[frozenset[str]] = []

    def before_commit() -> None:
        if worker.database.kind != "sqlite-journal":  # where readers wait for the writer
            seen.append(elsewhere(lambda: other.wiki.names))

    application.state.before_commit = before_commit

    async def main() -> None:
        assert elsewhere(lambda: other.wiki.names) == frozenset()
        assert await get(application, "/write/Refused", "POST") == b'{"own":["Refused"]}'
        assert elsewhere(lambda: other.wiki.names) == frozenset()
        assert await get(application, "/names") == b"[]"
        assert (
            await get(application, "/write/Front", "POST") == b'{"own":["Front"],"after":["Front"]}'
        )
        assert elsewhere(lambda: other.wiki.names) == {"Front"}
        assert await get(application, "/names") == b'["Front"]'

    run(main)
    assert seen == ([] if worker.database.kind == "sqlite-journal" else [frozenset()])


def test_case_14_threads_of_a_pool_that_are_certainly_two(worker: Worker, other: Worker) -> None:
    """The same with both threads held, so that they cannot be one."""

    async def endpoint(scope: Any, receive: Any, send: Any) -> None:
        session = Session(worker.engine)
        opened = threading.Event()
        written = threading.Event()

        def dependency() -> int:
            session.connection()
            opened.set()
            assert written.wait(20)
            session.commit()
            session.close()
            return threading.get_ident()

        def write() -> int:
            assert opened.wait(20)
            session.execute(page.insert().values(name="Front", text="text", version=0))
            del worker.wiki.names
            if worker.database.kind != "sqlite-journal":
                assert elsewhere(lambda: other.wiki.names) == frozenset()
            written.set()
            return threading.get_ident()

        one, two = await asyncio.gather(asyncio.to_thread(dependency), asyncio.to_thread(write))
        assert one != two
        await PlainTextResponse(text(worker.wiki.names))(scope, receive, send)

    assert elsewhere(lambda: other.wiki.names) == frozenset()
    body = elsewhere(lambda: asyncio.run(get(CacheMiddleware(endpoint, worker.cache_manager))))
    assert body == b"names: Front"
    assert elsewhere(lambda: other.wiki.names) == {"Front"}


# The rest


@only_python
def test_requests_in_one_loop_have_their_own_views(worker: Worker, other: Worker) -> None:
    """Two requests that take turns: the older one keeps its world."""

    async def endpoint(request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            for _ in range(2):
                yield text(worker.wiki.names)

        return StreamingResponse(body())

    application = starlette(worker, Route("/", endpoint))

    async def main() -> None:
        older = Connection(application)
        assert await older.block() == b"names: "
        elsewhere(lambda: other.write("Front", "Hello"))
        newer = Connection(application)
        assert await newer.block() == b"names: Front"
        assert await older.rest() == b"names: "
        assert await newer.rest() == b"names: Front"

    run(main)


@only_python
def test_under_a_middleware_that_runs_the_application_in_another_task(
    worker: Worker, other: Worker
) -> None:
    """Starlette's BaseHTTPMiddleware does, outside and inside of ours."""

    class Passing(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Any:
            return await call_next(request)

    def endpoint(request: Request) -> Response:
        def body() -> Iterator[bytes]:
            yield text(worker.wiki.names)
            elsewhere(lambda: other.write("Front", "Hello"))
            yield text(worker.wiki.names)

        return StreamingResponse(body())

    application = Starlette(routes=[Route("/", endpoint)])
    application.add_middleware(Passing)
    application.add_middleware(CacheMiddleware, manager=worker.cache_manager)
    application.add_middleware(Passing)
    assert elsewhere(lambda: asyncio.run(get(application))) == b"names: names: "


@only_python
@pytest.mark.parametrize("end", ["raised", "cancelled", "finished"])
def test_however_a_request_ends_its_view_ends(worker: Worker, other: Worker, end: str) -> None:
    """The client that goes is a task that is cancelled.  What the request left running (a task
    has a copy of its context) goes on outside of its view."""
    left_running = []

    async def endpoint(scope: Any, receive: Any, send: Any) -> None:
        assert worker.wiki.names == frozenset()
        left_running.append(copy_context())
        if end == "raised":
            raise Refusal
        if end == "cancelled":
            await send({"type": "test.waiting"})
            await asyncio.Event().wait()

    async def main() -> None:
        connection = Connection(CacheMiddleware(endpoint, worker.cache_manager))
        if end == "cancelled":
            await connection.hear()
            assert left_running[0].run(lambda: worker.cache_manager.view) is not None
            connection.task.cancel()
        outcome = await asyncio.gather(connection.task, return_exceptions=True)
        expected = {"raised": Refusal, "cancelled": asyncio.CancelledError, "finished": type(None)}
        assert type(outcome[0]) is expected[end]
        elsewhere(lambda: other.write("Front", "Hello"))
        assert left_running[0].run(lambda: worker.wiki.names) == {"Front"}

    run(main)


@only_python
def test_a_server_that_serves_in_one_task(worker: Worker) -> None:
    """Some test clients call the application in their own task: it is left as it was."""

    async def main() -> None:
        async def endpoint(scope: Any, receive: Any, send: Any) -> None:
            assert worker.cache_manager.view is not None

        async def unused(*_: Any) -> None:
            pass

        before = state()
        for kind in ("http", "websocket"):
            application: Any = CacheMiddleware(endpoint if kind == "http" else unused, manager)
            await application({"type": kind}, unused, unused)
            assert state() == before

    def state() -> dict[Any, Any]:
        return {v: value for v, value in copy_context().items() if value and value is not NO_MEMO}

    manager = worker.cache_manager
    run(main)


@only_python
def test_a_websocket_reads_what_is_new(worker: Worker, other: Worker) -> None:
    """It may last for days: each read looks at the ledger."""

    async def chat(socket: WebSocket) -> None:
        await socket.accept()
        for _ in range(2):
            await socket.receive_text()
            await socket.send_bytes(text(worker.wiki.names))
        await socket.close()

    application = starlette(worker, WebSocketRoute("/", chat))

    async def main() -> None:
        connection = Connection(application, kind="websocket")
        assert (await connection.hear())["type"] == "websocket.accept"
        connection.tell({"type": "websocket.receive", "text": "names?"})
        assert (await connection.hear())["bytes"] == b"names: "
        elsewhere(lambda: other.write("Front", "Hello"))
        connection.tell({"type": "websocket.receive", "text": "names?"})
        assert (await connection.hear())["bytes"] == b"names: Front"

    run(main)


@only_python
def test_a_websockets_threads_share_its_transaction(worker: Worker, other: Worker) -> None:
    """As in hard case 14: the session is opened in one thread, the `del` is in another."""
    session = Session(worker.engine)

    def write() -> None:
        session.execute(page.insert().values(name="Front", text="text", version=0))
        del worker.wiki.names

    async def chat(socket: WebSocket) -> None:
        await socket.accept()
        await asyncio.to_thread(session.connection)
        await asyncio.to_thread(write)
        assert elsewhere(lambda: other.wiki.names) == frozenset()
        await asyncio.to_thread(session.commit)
        await asyncio.to_thread(session.close)
        await socket.send_bytes(text(elsewhere(lambda: other.wiki.names)))

    application = starlette(worker, WebSocketRoute("/", chat))

    async def main() -> None:
        assert elsewhere(lambda: other.wiki.names) == frozenset()
        connection = Connection(application, kind="websocket")
        await connection.hear()
        assert (await connection.hear())["bytes"] == b"names: Front"

    run(main)


@only_python
def test_the_lifespan_has_no_view(worker: Worker) -> None:
    """The manager may be made in it."""
    managers: list[CacheManager] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            assert worker.cache_manager.view is None
            managers.append(worker.cache_manager)
        else:
            await PlainTextResponse(text(worker.wiki.names))(scope, receive, send)
            assert worker.cache_manager.view is not None

    async def main() -> None:
        middleware = CacheMiddleware(application, lambda: managers[0])
        await Connection(middleware, kind="lifespan").task
        assert await get(middleware) == b"names: "

    run(main)


def test_an_asynchronous_engine(database: Database) -> None:
    """The view spans awaits and tasks; the next request sees what was committed."""

    class Names:
        def __init__(self, manager: CacheManager) -> None:
            self.cache_manager = manager

        @cached
        async def names(self) -> frozenset[str]:
            async with self.cache_manager.connect() as connection:
                return frozenset(await connection.scalars(page.select()))

    async def main() -> None:
        engine = database.async_engine()
        manager = CacheManager(engine)
        await manager.acreate_table()
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
        names = Names(manager)
        wait, go_on = asyncio.Event(), asyncio.Event()

        async def endpoint(request: Request) -> Response:
            first = await names.names
            wait.set()
            await go_on.wait()
            assert await asyncio.create_task(_awaited(names)) == first
            return PlainTextResponse(text(first))

        async def write(request: Request) -> Response:
            async with manager.begin() as connection:
                await connection.execute(page.insert().values(name="Front", text="", version=0))
                del names.names
            return PlainTextResponse(text(await names.names))

        application = Starlette(routes=[Route("/", endpoint), Route("/write", write)])
        application.add_middleware(CacheMiddleware, manager=manager)
        reading = Connection(application)
        await asyncio.wait_for(wait.wait(), 20)
        assert await get(application, "/write") == b"names: Front"
        go_on.set()
        assert await reading.rest() == b"names: "
        assert await get(application) == b"names: Front"
        await manager.aclose()
        await engine.dispose()

    run(main)


async def _awaited(names: Any) -> Any:
    return await names.names
