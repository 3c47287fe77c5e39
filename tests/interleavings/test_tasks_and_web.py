"""Tasks, event loops, requests within requests, and what is cancelled."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from contextlib import nullcontext, suppress
from contextvars import copy_context
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from coherent_cache import CacheManager, RecursiveRetrieverError, cached
from coherent_cache.errors import ConfigurationError
from coherent_cache.greenlets import Mutex, spawn, wait_in_greenlet

from ..test_async import AsyncWorker, Page, insert, run
from ..web.server import get
from ..workers import Worker, page

quick = pytest.mark.on("sqlite-wal")
three = pytest.mark.on("sqlite-wal", "postgresql", "mariadb")


def in_thread(function: Any) -> Any:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join(30)
    return found[0]


# 1. gather in a retriever


@quick
def test_gather_in_a_retriever_loads_twice(worker: Worker) -> None:
    async def story(here: AsyncWorker) -> None:
        class Leaf:
            cache_manager = here.cache_manager

            @cached
            async def both(self) -> int:
                a, b = await asyncio.gather(
                    asyncio.create_task(v(here)), asyncio.create_task(w(here))
                )
                return len(a) + b

        async def v(h: Any) -> Any:
            return await h.names

        async def w(h: Any) -> Any:
            return await h.count

        async def hook() -> None:
            await asyncio.sleep(0.01)

        here.hook = hook
        with here.cache_manager.request():
            await Leaf().both
        assert here.calls == 1

    run(worker.database, story)


@quick
def test_gather_in_a_retriever_of_three(worker: Worker) -> None:
    """All wait for one; and what it raises reaches all of them."""

    async def story(here: AsyncWorker) -> None:
        class Leaf:
            cache_manager = here.cache_manager

            @cached
            async def all(self) -> Any:
                reads = [here.names, here.count, here.count, here.names]
                return await asyncio.gather(*reads, return_exceptions=True)

        async def fails() -> None:
            await asyncio.sleep(0.01)
            if here.calls == 1:
                raise KeyError("once")

        here.hook = fails
        with here.cache_manager.request():
            found = await Leaf().all
        assert [type(each) for each in found] == [KeyError] * 4
        await here.cache_manager.ainvalidate(Leaf(), "all")
        with here.cache_manager.request():
            assert await Leaf().all == [frozenset(), 0, 0, frozenset()]
        assert here.calls == 2

    run(worker.database, story)


@quick
@pytest.mark.parametrize("tasks", ["ab", "ba", "abc", "cab", "bca"])
def test_gather_in_a_retriever_of_what_reads_each_other(worker: Worker, tasks: str) -> None:
    """A reads B, B reads C and C reads A, each in a task of its own: circles, and no hang."""

    async def story(here: AsyncWorker) -> None:
        class Circle:
            cache_manager = here.cache_manager

            async def then(self, name: str) -> str:
                for _ in range(3):
                    await asyncio.sleep(0)
                try:
                    return name + str(await getattr(self, name))
                except RecursiveRetrieverError:
                    return name + "!"

            @cached
            async def a(self) -> str:
                return await self.then("b")

            @cached
            async def b(self) -> str:
                return await self.then("c")

            @cached
            async def c(self) -> str:
                return await self.then("a")

            @cached
            async def all(self) -> list[str]:
                return await asyncio.gather(*(getattr(self, name) for name in tasks))

        circle = Circle()
        # And somebody else at the same time, in the other order.
        others = [asyncio.create_task(circle.then(name)) for name in reversed(tasks)]
        assert len(await asyncio.wait_for(circle.all, 10)) == len(tasks)
        await asyncio.wait_for(asyncio.gather(*others), 10)

    run(worker.database, story)


@three
def test_gather_in_a_retriever_with_a_pool_of_one(worker: Worker) -> None:
    """One task has the pool's connection and needs the value that the other loads, which waits for
    the pool."""

    async def main() -> None:
        engine = worker.database.async_engine(pool_size=1, max_overflow=0, pool_timeout=5)
        here = AsyncWorker(engine)
        taken = asyncio.Event()

        class Leaf:
            cache_manager = here.cache_manager

            @cached
            async def both(self) -> int:
                async def with_a_connection() -> int:
                    async with engine.connect():
                        taken.set()
                        return await asyncio.wait_for(here.cache_manager.aget("k", one), 3)

                async def one() -> int:
                    return 1

                async def slow() -> int:
                    await taken.wait()
                    async with engine.connect() as connection:
                        await connection.execute(select(page.c.name))
                    return 1

                first = asyncio.create_task(here.cache_manager.aget("k", slow))
                await asyncio.sleep(0.05)
                return sum(await asyncio.gather(first, with_a_connection()))

        try:
            assert await Leaf().both == 2
        finally:
            await here.cache_manager.aclose()
            await engine.dispose()

    asyncio.run(main())


@quick
def test_gather_in_a_retriever_hangs(worker: Worker) -> None:
    """A gathers B and C; B reads A: a circle, an error if alone; a hang if B and C are loaded by
    others."""

    async def story(here: AsyncWorker) -> None:
        go = asyncio.Event()
        release_c = asyncio.Event()

        class Three:
            cache_manager = here.cache_manager

            @cached
            async def a(self) -> int:
                async def b() -> int:
                    return await self.b

                async def c() -> int:
                    return await self.c

                return sum(await asyncio.gather(b(), c()))

            @cached
            async def b(self) -> int:
                await go.wait()
                return await self.a

            @cached
            async def c(self) -> int:
                await release_c.wait()
                return 1

        three = Three()

        async def read(name: str) -> Any:
            try:
                return await getattr(three, name)
            except RecursiveRetrieverError:
                return "circle"

        y = asyncio.create_task(read("b"))
        z = asyncio.create_task(read("c"))
        await asyncio.sleep(0.1)
        x = asyncio.create_task(read("a"))
        await asyncio.sleep(0.1)
        release_c.set()
        assert await z == 1
        await asyncio.sleep(0.1)
        go.set()
        _done, pending = await asyncio.wait([x, y], timeout=5)
        for task in pending:
            task.cancel()
        assert not pending, "hangs"

    run(worker.database, story)


# 2. tasks that outlive a retriever


@quick
def test_task_begun_in_a_retriever(worker: Worker) -> None:
    async def story(here: AsyncWorker) -> None:
        seen: list[Any] = []
        stop = asyncio.Event()
        tasks = []

        async def background() -> None:
            await stop.wait()
            try:
                seen.append(await lazy.value)
            except BaseException as error:
                seen.append(error)
            for _number in range(200):
                async with here.cache_manager.begin() as connection:
                    await connection.execute(text("SELECT 1"))
            from coherent_cache.load import current_load

            load = current_load.get()
            seen.append(0 if load is None else len(load.chain._transactions))

        class Lazy:
            cache_manager = here.cache_manager

            @cached
            async def value(self) -> int:
                if not tasks:
                    tasks.append(asyncio.create_task(background()))
                return 1

        lazy = Lazy()
        assert await lazy.value == 1
        await here.cache_manager.ainvalidate(lazy, "value")
        stop.set()
        await tasks[0]
        assert seen == [1, 0]

    run(worker.database, story)


# 3. lost invalidation


@three
@pytest.mark.parametrize("open_", ["session", "connection", "none"])
@pytest.mark.parametrize("writer", ["Session", "manager.begin", "engine.begin"])
def test_del_before_the_transaction_that_writes(
    worker: Worker, other: Worker, open_: str, writer: str
) -> None:
    """In a request a transaction has read only and is still open."""
    assert other.wiki.names == frozenset() == worker.wiki.names
    with worker.cache_manager.request():
        if open_ == "session":
            session: Any = Session(worker.engine)
            session.execute(text("SELECT 1"))
        elif open_ == "connection":
            session = worker.engine.connect()
            session.execute(text("SELECT 1"))
        else:
            session = None
        del worker.wiki.names
        if writer == "Session":
            with Session(worker.engine) as s:
                s.execute(page.insert().values(name="A", text="", version=0))
                s.commit()
        elif writer == "manager.begin":
            with worker.cache_manager.begin() as c:
                c.execute(page.insert().values(name="A", text="", version=0))
        else:
            with worker.engine.begin() as c:
                c.execute(page.insert().values(name="A", text="", version=0))
        if session is not None:
            session.close()
    assert other.wiki.names == {"A"}
    assert worker.wiki.names == {"A"}


# 4. two threads of one request


@three
def test_two_threads_of_a_request_one_connection(worker: Worker) -> None:
    slow = {
        "sqlite-wal": "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c "
        "WHERE x<3000000) SELECT count(*) FROM c",
        "postgresql": "SELECT pg_sleep(0.5)",
        "mariadb": "SELECT SLEEP(0.5)",
    }[worker.database.kind]
    errors: list[Any] = []
    with worker.cache_manager.request():
        began = threading.Event()

        def one() -> None:
            try:
                with worker.cache_manager.begin() as c:
                    c.execute(page.insert().values(name="A", text="", version=0))
                    began.set()
                    for _ in range(3):
                        c.execute(text(slow)).all()
            except BaseException as error:
                errors.append(error)

        def two() -> None:
            began.wait()
            time.sleep(0.1)
            try:
                for _ in range(3):
                    with worker.cache_manager.connect() as c:
                        c.execute(select(page.c.name)).all()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=copy_context().run, args=(f,)) for f in (one, two)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert errors == []


# 5. sync get beside an async load, in the loop's thread, on a sync engine


@quick
def test_sync_get_beside_an_aget_hangs(worker: Worker) -> None:
    manager = worker.cache_manager
    outcome: list[Any] = []

    def body() -> None:
        async def slow() -> int:
            await asyncio.sleep(0.2)
            return 1

        async def main() -> None:
            task = asyncio.create_task(manager.aget("k", slow))
            await asyncio.sleep(0.05)
            outcome.append(manager.get("k", lambda: 1))
            outcome.append(await task)

        asyncio.run(main())

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(5)
    assert outcome == [1, 1]


# 6. a websocket's scope


@quick
def test_websocket_scope_grows(worker: Worker) -> None:
    from coherent_cache.asgi import CacheMiddleware
    from coherent_cache.scope import current_scope

    sizes = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for number in range(3000):
            worker.cache_manager.invalidate(f"key {number}")
        sizes.append(len(current_scope()._unclaimed))
        before = worker.cache_manager.status().rows
        with worker.cache_manager.begin() as c:
            c.execute(page.insert().values(name="A", text="", version=0))
        sizes.append(worker.cache_manager.status().rows - before)

    asyncio.run(CacheMiddleware(app, worker.cache_manager)({"type": "websocket"}, None, None))  # type: ignore
    assert sizes == [0, 0]


# 7. nested middlewares


@quick
def test_mounted_application_with_its_own_middleware(worker: Worker, other: Worker) -> None:
    from coherent_cache.asgi import CacheMiddleware

    seen: list[Any] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append(worker.wiki.names)

    mounted = CacheMiddleware(inner, worker.cache_manager)

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        seen.append(worker.wiki.names)
        in_thread(lambda: other.write("A", ""))
        await mounted(scope, receive, send)
        seen.append(worker.wiki.names)

    asyncio.run(CacheMiddleware(outer, worker.cache_manager)({"type": "http"}, None, None))  # type: ignore
    assert len(set(seen)) == 1, seen


@quick
@pytest.mark.parametrize("handed_on", ["itself", "a copy"])
def test_mounted_in_starlette(worker: Worker, other: Worker, handed_on: str) -> None:
    """Also where a thread has the copy of the context, and only for the request's time."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Mount, Route

    from coherent_cache.asgi import CacheMiddleware

    seen: list[Any] = []
    scopes: list[Any] = []

    def endpoint(request: Request) -> PlainTextResponse:  # in a thread of a pool
        seen.append(worker.wiki.names)
        return PlainTextResponse("")

    inner = Starlette(routes=[Route("/", endpoint)])
    inner.add_middleware(CacheMiddleware, manager=worker.cache_manager)
    outer = Starlette(routes=[Mount("/in", inner)])

    async def reads_first(scope: Any, receive: Any, send: Any) -> None:
        seen.append(worker.wiki.names)
        in_thread(lambda: other.write("A", ""))
        if handed_on == "a copy":
            scope = dict(scope)
        scopes.append(scope)
        await outer(scope, receive, send)
        seen.append(worker.wiki.names)

    async def main() -> None:
        await get(CacheMiddleware(reads_first, worker.cache_manager), "/in/")
        assert seen == [frozenset()] * 3
        # What is left of the request opens nothing, and is no other request.
        await inner({**scopes[0], "path": "/"}, receive, send)
        assert seen[3:] == [{"A"}]

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        pass

    asyncio.run(main())


def wsgi_environ() -> dict[str, Any]:
    found: dict[str, Any] = {}
    setup_testing_defaults(found)
    return found


def start_response(*_: Any) -> Any:
    return None


@quick
@pytest.mark.parametrize("inner_closes", ["early", "with the outer one"])
@pytest.mark.parametrize("mounted_in", ["wsgi", "asgi"])
def test_mounted_wsgi_that_streams(
    worker: Worker, other: Worker, inner_closes: str, mounted_in: str
) -> None:
    from coherent_cache.asgi import CacheMiddleware as Asgi
    from coherent_cache.wsgi import CacheMiddleware

    def inner(environ: Any, start_response: Any) -> Any:
        yield worker.wiki.names
        yield worker.wiki.names

    mounted = CacheMiddleware(inner, worker.cache_manager)

    def outer(environ: Any, start_response: Any) -> Any:
        yield worker.wiki.names
        in_thread(lambda: other.write("A", ""))
        body = mounted(environ, start_response)
        yield from body
        if inner_closes == "early":
            body.close()  # type: ignore[attr-defined]
        yield worker.wiki.names
        body.close()  # type: ignore[attr-defined]

    environ = wsgi_environ()
    if mounted_in == "wsgi":
        body = CacheMiddleware(outer, worker.cache_manager)(environ, start_response)
        seen = list(body)
        body.close()  # type: ignore[attr-defined]
    else:
        seen = []

        async def bridge(scope: Any, receive: Any, send: Any) -> None:  # as a2wsgi is one
            environ["asgi.scope"] = scope
            context = copy_context()
            in_thread(lambda: context.run(lambda: seen.extend(outer(environ, start_response))))

        asyncio.run(Asgi(bridge, worker.cache_manager)({"type": "http"}, None, None))  # type: ignore
    assert seen == [frozenset()] * 4
    # The next request, of a server that uses its environment again.
    assert list(mounted(environ, start_response)) == [{"A"}] * 2
    assert worker.cache_manager.view is None


@quick
@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_mounted_with_another_manager(worker: Worker, other: Worker, kind: str) -> None:
    """Each manager has a view of its own, and one only."""
    from coherent_cache.asgi import CacheMiddleware as Asgi
    from coherent_cache.wsgi import CacheMiddleware as Wsgi

    views: list[Any] = []
    managers = [worker.cache_manager, other.cache_manager, worker.cache_manager]

    def note() -> None:
        views.append((worker.cache_manager.view, other.cache_manager.view))

    def wsgi(inner: Any) -> Any:
        def application(environ: Any, start_response: Any) -> Any:
            note()
            found = inner(environ, start_response) if inner else []
            note()
            return found

        return application

    def asgi(inner: Any) -> Any:
        async def application(scope: Any, receive: Any, send: Any) -> None:
            note()
            if inner:
                await inner(scope, receive, send)
            note()

        return application

    application: Any = None
    for manager in managers:
        if kind == "wsgi":
            application = Wsgi(wsgi(application), manager)
        else:
            application = Asgi(asgi(application), manager)
    if kind == "wsgi":
        application(wsgi_environ(), start_response)
    else:
        asyncio.run(application({"type": "http"}, None, None))
    (a, none), (_, b), innermost, *after = views
    assert a is not None
    assert none is None
    assert b is not None
    assert innermost == (a, b)
    assert after == [(a, b), (a, b), (a, None)]


@quick
def test_mounted_websocket(worker: Worker, other: Worker) -> None:
    """One scope: what the inner application has begun is found by the outer one's `del`."""
    from coherent_cache.asgi import CacheMiddleware

    seen: list[Any] = []
    began, invalidated = asyncio.Event(), asyncio.Event()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        session = Session(worker.engine)
        session.execute(page.insert().values(name="A", text="", version=0))
        began.set()
        await invalidated.wait()
        seen.append(in_thread(lambda: other.wiki.names))
        session.commit()

    mounted = CacheMiddleware(inner, worker.cache_manager)

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        task = asyncio.create_task(mounted(scope, receive, send))
        await began.wait()
        del worker.wiki.names
        invalidated.set()
        await task
        assert worker.cache_manager.view is None

    application = CacheMiddleware(outer, worker.cache_manager)
    asyncio.run(application({"type": "websocket"}, None, None))  # type: ignore
    assert seen == [frozenset()]
    assert other.wiki.names == {"A"}


@quick
@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_mounted_is_not_what_a_test_client_asks_for(
    worker: Worker, other: Worker, kind: str
) -> None:
    """A request that is made in the middle of another one is one of its own."""
    from coherent_cache.asgi import CacheMiddleware as Asgi
    from coherent_cache.wsgi import CacheMiddleware as Wsgi

    seen: list[Any] = []

    async def asgi(scope: Any, receive: Any, send: Any) -> None:
        seen.append(worker.wiki.names)
        if len(seen) == 1:
            in_thread(lambda: other.write("A", ""))
            await Asgi(asgi, worker.cache_manager)({"type": "http"}, receive, send)
            seen.append(worker.wiki.names)

    def wsgi(environ: Any, start_response: Any) -> Any:
        seen.append(worker.wiki.names)
        if len(seen) == 1:
            in_thread(lambda: other.write("A", ""))
            Wsgi(wsgi, worker.cache_manager)(wsgi_environ(), start_response)
            seen.append(worker.wiki.names)
        return []

    if kind == "asgi":
        asyncio.run(Asgi(asgi, worker.cache_manager)({"type": "http"}, None, None))  # type: ignore
    else:
        Wsgi(wsgi, worker.cache_manager)(wsgi_environ(), start_response)
    assert seen == [frozenset(), {"A"}, frozenset()]


@quick
def test_mounted_flask_applications(worker: Worker, other: Worker) -> None:
    """Two applications with one manager; each stream finds its own application afterwards."""
    from flask import Flask
    from werkzeug.test import Client

    from coherent_cache.flask import CoherentCache, _serving

    outer, inner = Flask("outer"), Flask("inner")
    cache = CoherentCache(manager=worker.cache_manager)
    cache.init_app(inner)
    written = ["B", "A"]

    def body(app: Flask, inside: Any = ()) -> Any:
        assert _serving.get() is app
        yield f"{','.join(worker.wiki.names)};"
        yield from inside
        assert _serving.get() is app
        yield f"{','.join(worker.wiki.names)};"

    @inner.get("/names")
    def names() -> Any:
        in_thread(lambda: other.write(written.pop(), ""))
        return inner.response_class(body(inner))

    def dispatch(environ: Any, start_response: Any) -> Any:
        _ = worker.wiki.names
        inside = inner.wsgi_app(environ, lambda *_: start_response)
        start_response("200 OK", [])
        return (text.encode() for text in body(outer, (part.decode() for part in inside)))

    outer.wsgi_app = dispatch  # type: ignore[method-assign]
    cache.init_app(outer)
    assert Client(outer.wsgi_app).get("/names").text == ";;;;"
    assert Client(outer.wsgi_app).get("/names").text == "A;A;A;A;"


# 8. cancelled while the ledger's own connection is opened (SQLite)


class Cancelling:
    """Awaits *coro* and cancels it where it waits for the *nth* time, as `Task.cancel` does;
    with *level* each time after that too, as a cancel scope of anyio does."""

    def __init__(self, coro: Any, nth: int, level: bool = False) -> None:
        self.coro, self.nth, self.level = coro, nth, level
        self.count = 0
        self.cancelled = False

    def __await__(self) -> Any:
        send: Any = self.coro.send
        arg: Any = None
        while True:
            try:
                yielded = send(arg)
            except StopIteration as stop:
                return stop.value
            self.count += 1
            if self.count == self.nth or (self.level and self.count > self.nth):
                self.cancelled = True
                if yielded is not None:
                    yielded._asyncio_future_blocking = False
                    yielded.cancel()
                yield None
                send, arg = self.coro.throw, asyncio.CancelledError()
                continue
            try:
                arg = yield yielded
                send = self.coro.send
            except BaseException as error:
                send, arg = self.coro.throw, error


@quick
@pytest.mark.parametrize("what", ["read", "ainvalidate"])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_cancelled_while_the_ledgers_connection_opens(worker: Worker, what: str) -> None:
    async def story(here: AsyncWorker) -> None:
        async def act() -> None:
            if what == "read":
                with here.cache_manager.request():
                    await here.names
            else:
                await here.cache_manager.ainvalidate("x")

        failed = {}
        for nth in range(1, 40):
            here.cache_manager = CacheManager(create_async_engine(here.engine.url))
            cancelling = Cancelling(act(), nth)

            async def go(cancelling: Cancelling = cancelling) -> None:
                await cancelling

            with suppress(asyncio.CancelledError):
                await asyncio.create_task(go())
            try:
                await act()
            except AttributeError as error:
                failed[nth] = repr(error)
            await here.cache_manager.aclose()
            if not cancelling.cancelled:
                break
        assert failed == {}

    run(worker.database, story)


# 9. cancelled by a cancel scope of anyio (SQLite)


@quick
@pytest.mark.parametrize("by", ["asyncio", "anyio"])
def test_a_cancel_scope_leaves_sqlite_locked(worker: Worker, by: str) -> None:
    """`ainvalidate` waits for another writer's lock and is cancelled; the other writer commits.
    From then on nobody can write, in any process."""
    import gc
    import sqlite3

    import anyio

    path = worker.database.url.database
    assert path

    kept: list[BaseException] = []

    async def main() -> None:
        engine = worker.database.async_engine()
        manager = CacheManager(engine)
        await manager.ainvalidate("x")
        busy = sqlite3.connect(path)
        busy.execute("BEGIN IMMEDIATE")
        if by == "anyio":
            with anyio.move_on_after(0.3) as scope:
                try:
                    await manager.ainvalidate("x")
                except BaseException as error:
                    kept.append(error)  # as an error reporter does; aiosqlite < 0.22 needs no such
                    raise
            assert scope.cancelled_caught
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await manager.ainvalidate("x")
        busy.commit()
        busy.close()
        gc.collect()
        await asyncio.sleep(1)
        outcome = await asyncio.to_thread(try_to_write)
        await manager.aclose()
        await engine.dispose()
        assert outcome == "written"

    def try_to_write() -> str:
        connection = sqlite3.connect(path, timeout=3)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.rollback()
            return "written"
        except sqlite3.OperationalError as error:
            return str(error)
        finally:
            connection.close()

    asyncio.run(main())


# 10. tasks of a request and its own writes


@three
@pytest.mark.parametrize("how", ["gather", "wait_for"])
def test_own_writes_in_a_task_of_the_request(worker: Worker, how: str) -> None:
    async def story(here: AsyncWorker) -> None:
        with here.cache_manager.request():
            assert await here.names == frozenset()
            async with here.cache_manager.begin() as connection:
                await insert(connection, "A")
                del here.names
                if how == "gather":

                    async def one() -> Any:
                        return await here.names

                    async def two() -> Any:
                        return await here.count

                    assert await asyncio.gather(one(), two()) == [{"A"}, 1]
                elif how == "wait_for":
                    assert await asyncio.wait_for(here.names, 5) == {"A"}
            assert await here.names == {"A"}

    run(worker.database, story)


@three
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_commit_while_a_task_reads_on_the_connection(worker: Worker, end: str) -> None:
    """Nobody waits for the reader, who is in the middle of his retriever at the end."""

    async def story(here: AsyncWorker) -> None:
        reads, may_go_on = asyncio.Event(), asyncio.Event()

        class Slow:
            cache_manager = here.cache_manager

            @cached
            async def names(self) -> frozenset[str]:
                async with here.cache_manager.connect() as connection:
                    first = frozenset(await connection.scalars(select(page.c.name)))
                    reads.set()
                    await may_go_on.wait()
                    assert first == frozenset(await connection.scalars(select(page.c.name)))
                    return first

        slow = Slow()

        async def read() -> Any:
            return await slow.names

        with here.cache_manager.request():
            async with here.engine.connect() as connection:
                outer = await connection.begin()
                await insert(connection, "A")
                del slow.names
                task = asyncio.create_task(read())
                await reads.wait()
                asyncio.get_running_loop().call_later(0.2, may_go_on.set)
                await getattr(outer, end)()
                assert task.done()
            assert await task == {"A"}
        assert await slow.names == (set() if end == "rollback" else {"A"})

    run(worker.database, story)


@quick
def test_a_commit_that_waits_for_its_reader_for_ever(worker: Worker) -> None:
    """The reader, within his block, waits for what comes after the COMMIT."""

    async def story(here: AsyncWorker) -> None:
        reads, may_go_on = asyncio.Event(), asyncio.Event()

        async def read() -> None:
            async with here.cache_manager.connect() as connection:
                await connection.execute(select(page.c.name))
                reads.set()
                await may_go_on.wait()

        with here.cache_manager.request():
            async with here.cache_manager.begin() as connection:
                await insert(connection, "A")
                task = asyncio.create_task(read())
                await reads.wait()
            may_go_on.set()
            await task

    run(worker.database, story)


@three
def test_a_task_that_begins_to_read_during_the_commit(worker: Worker) -> None:
    """It gets a connection of its own: that of the transaction is about to be closed."""

    async def story(here: AsyncWorker) -> None:
        ends = asyncio.Event()
        (watch,) = here.cache_manager.core.watches
        write = watch._claim_if_written  # what comes first of a COMMIT

        def slowly(transaction: Any) -> None:
            ends.set()
            wait_in_greenlet(asyncio.sleep(0.1))
            write(transaction)

        watch._claim_if_written = slowly  # type: ignore[method-assign]

        async def read() -> Any:
            async with here.cache_manager.connect() as connection:
                await asyncio.sleep(0.3)
                return frozenset(await connection.scalars(select(page.c.name)))

        async def later() -> Any:
            await ends.wait()
            return await here.cache_manager.aget("k", read)

        with here.cache_manager.request():
            async with here.cache_manager.begin() as connection:
                await connection.execute(select(page.c.name))
                task = asyncio.create_task(later())
            assert await task == set()

    run(worker.database, story)


@three
def test_two_tasks_that_read_one_value_in_the_transaction(worker: Worker, other: Worker) -> None:
    async def story(here: AsyncWorker) -> None:
        first_has_read = asyncio.Event()

        class Slow:
            cache_manager = here.cache_manager
            calls = 0

            @cached
            async def names(self) -> frozenset[str]:
                self.calls += 1
                number = self.calls
                if number == 2:
                    await first_has_read.wait()
                async with here.cache_manager.connect() as connection:
                    found = frozenset(await connection.scalars(select(page.c.name)))
                if number == 1:
                    await insert(writer, "B")
                    first_has_read.set()
                    await asyncio.sleep(0.05)
                return found

        slow = Slow()

        async def read() -> Any:
            return await slow.names

        with here.cache_manager.request():
            async with here.cache_manager.begin() as writer:
                await insert(writer, "A")
                one, two = await asyncio.gather(read(), read())
                assert one == two == await slow.names
        assert await slow.names == {"A", "B"}

    run(worker.database, story)


@three
def test_a_sibling_does_not_see_what_is_not_committed(worker: Worker) -> None:
    """Two tasks, one of which has a transaction that the other was not begun in."""

    async def story(here: AsyncWorker) -> None:
        written, read = asyncio.Event(), asyncio.Event()

        async def write() -> None:
            async with here.cache_manager.begin() as connection:
                await insert(connection, "A")
                written.set()
                if worker.database.kind != "sqlite-wal":
                    await here.names
                await read.wait()

        async def look() -> Any:
            await written.wait()
            try:
                return await here.names
            finally:
                read.set()

        with here.cache_manager.request():
            assert (await asyncio.gather(write(), look()))[1] == frozenset()

    run(worker.database, story)


# 11. tasks that outlive their request


@three
def test_a_del_of_a_task_that_outlives_its_request(worker: Worker, other: Worker) -> None:
    """Two jobs that a request left behind, which share nothing but that."""

    async def story(here: AsyncWorker) -> None:
        written, may_roll_back = asyncio.Event(), asyncio.Event()

        async def first() -> None:
            async with here.engine.connect() as connection:
                await connection.execute(select(page.c.name))
                written.set()
                await may_roll_back.wait()

        async def second() -> None:
            await written.wait()
            async with here.engine.begin() as connection:
                await insert(connection, "A")
            await here.cache_manager.ainvalidate(here, "names")

        with here.cache_manager.request():
            assert await here.names == frozenset()
            jobs = [asyncio.create_task(first()), asyncio.create_task(second())]
        # the request is over
        await jobs[1]
        may_roll_back.set()
        await jobs[0]
        assert await here.names == {"A"}

    run(worker.database, story)


# 12. loops


@quick
@pytest.mark.parametrize("at_once", [1, 2])
def test_event_loops_are_let_go(worker: Worker, at_once: int) -> None:
    import gc
    import weakref

    engine = worker.database.async_engine()
    manager = CacheManager(engine)
    loops: list[Any] = []

    async def once() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await asyncio.gather(*[manager.ainvalidate("a") for _ in range(at_once)])
        await manager.aclose()
        await engine.dispose()

    for _ in range(10):
        asyncio.run(once())
    gc.collect()
    assert sum(loop() is not None for loop in loops) <= 1


def test_event_loops_are_let_go_by_a_lock_of_all() -> None:
    """One that several loops have: of a database in memory, of a snapshot."""
    import gc
    import weakref

    mutex = Mutex(is_async=True)
    loops: list[Any] = []

    def hold() -> None:
        with mutex.held():
            wait_in_greenlet(asyncio.sleep(0.01))

    async def once() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await asyncio.gather(spawn(hold), spawn(hold))

    for _ in range(5):
        asyncio.run(once())
    gc.collect()
    assert sum(loop() is not None for loop in loops) <= 1


@three
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_event_loops_that_nobody_takes_leave_of(worker: Worker) -> None:
    """A job queue that runs each job by `asyncio.run`, without `aclose`."""
    import gc
    import weakref

    from sqlalchemy.pool import NullPool

    engine = worker.database.async_engine(poolclass=NullPool)
    here = AsyncWorker(engine)
    loops: list[Any] = []

    async def once() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        names = [here.names for _ in range(3)]
        assert len(set(await asyncio.gather(*names))) == 1
        await asyncio.gather(*[here.cache_manager.ainvalidate("a") for _ in range(2)])

    for count in range(1, 6):
        asyncio.run(once())
        assert here.cache_manager.statistics.checks >= 2 * count
    gc.collect()
    assert sum(loop() is not None for loop in loops) <= 1
    asyncio.run(here.cache_manager.aclose())


@quick
def test_what_an_event_loop_knew_that_is_closed(worker: Worker, other: Worker) -> None:
    """A SELECT that has not ended keeps its snapshot, which is older than what another loop has
    applied, and nobody says so; then that loop is closed, and this one need not look again."""
    from coherent_cache import Bounded

    engine = worker.database.async_engine()
    here = CacheManager(engine, freshness=Bounded(seconds=60))
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    held: list[Any] = []
    endless = (
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<100000) "
        "SELECT name FROM page UNION ALL SELECT x FROM c"
    )

    async def hold() -> None:
        connection = await engine.connect()
        result = await connection.stream(text(endless))
        held.extend([connection, result])
        await result.fetchone()

    async def look() -> None:
        await here.aget("other", lambda: asyncio.sleep(0, 1))

    async def load() -> frozenset[str]:
        async def names() -> frozenset[str]:
            return frozenset(await held[0].scalars(select(page.c.name)))

        return await here.aget("k", names)

    async def load_anew() -> frozenset[str]:
        async def names() -> frozenset[str]:
            async with engine.connect() as connection:
                return frozenset(await connection.scalars(select(page.c.name)))

        return await here.aget("k", names)

    async def end() -> None:
        await held[1].close()
        await held[0].close()

    async def leave() -> None:
        await here.aclose()
        await engine.dispose()

    second.run_until_complete(hold())
    with other.cache_manager.begin() as connection:
        connection.execute(page.insert().values(name="A", text="", version=0))
        other.cache_manager.invalidate("k")
    first.run_until_complete(look())
    first.close()
    second.run_until_complete(here.astatus())  # the ledger's connection, and no look
    assert second.run_until_complete(load()) == frozenset()
    second.run_until_complete(end())
    assert second.run_until_complete(load_anew()) == {"A"}
    second.run_until_complete(leave())
    second.close()


# 13. close() of an asynchronous manager


@quick
def test_close_of_an_asynchronous_manager(worker: Worker) -> None:
    from coherent_cache import SynchronousUseError

    manager = CacheManager(worker.database.async_engine())
    with pytest.raises(SynchronousUseError):
        manager.close()


# 14. Flask: a request within a request


@quick
def test_a_request_within_a_request(tmp_path: Any) -> None:
    from flask import Flask
    from flask_sqlalchemy import SQLAlchemy

    from coherent_cache.flask import CoherentCache

    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path}/x.db"
    db = SQLAlchemy(app)
    cache = CoherentCache(app, db)
    table = db.Table("p", db.Column("name", db.String(20), primary_key=True))

    class Wiki:
        @cached
        def names(self) -> Any:
            return tuple(db.session.scalars(select(table.c.name)))

    wiki = Wiki()

    @app.get("/names")
    def names() -> Any:
        return list(wiki.names)

    @app.get("/outer")
    def outer() -> Any:
        db.session.execute(table.insert().values(name="draft"))
        del wiki.names
        own = list(wiki.names)
        nested = app.test_client().get("/names").json
        db.session.rollback()
        return [own, nested]

    with app.app_context():
        db.create_all()
        cache.manager.create_table()
    assert app.test_client().get("/outer").json == [["draft"], []]
    with app.app_context():
        cache.manager.close()
        db.engine.dispose()


# 15. a time-out round a read while the server does not answer


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.parametrize("what", ["sqlalchemy", "read", "ainvalidate"])
def test_a_time_out_while_the_server_does_not_answer(worker: Worker, what: str) -> None:
    from ..proxy import PASS, proxied

    open_ = threading.Event()
    open_.set()

    def watch(data: bytes) -> str:
        open_.wait()
        return PASS

    with proxied(worker.database.url, watch=watch) as (url, _):
        driver = {"postgresql": "postgresql+asyncpg", "mysql": "mysql+aiomysql"}

        async def main() -> None:
            engine = create_async_engine(url.set(drivername=driver[url.get_backend_name()]))
            here = AsyncWorker(engine)

            async def act() -> None:
                if what == "read":
                    with here.cache_manager.request():
                        await here.names
                elif what == "ainvalidate":
                    await here.cache_manager.ainvalidate("x")
                else:
                    async with engine.connect() as connection:
                        await connection.execute(select(page.c.name))

            await act()
            await act()
            open_.clear()
            began = time.monotonic()

            async def limited() -> None:
                async with asyncio.timeout(0.5):
                    await act()

            task = asyncio.create_task(limited())
            await asyncio.wait([task], timeout=20)
            took = time.monotonic() - began
            returned = task.done()
            open_.set()
            await asyncio.wait([task])
            assert returned
            assert isinstance(task.exception(), TimeoutError)
            await act()
            await here.cache_manager.aclose()
            await engine.dispose()
            assert took < 5  # SQLAlchemy itself takes 2.5 seconds with asyncpg

        asyncio.run(main())


# 16. a pool of one, and a task


@three
def test_a_pool_of_one_and_wait_for(worker: Worker) -> None:
    """asyncio.wait_for (before Python 3.12, and gather always) makes a task of the read."""

    async def main() -> None:
        engine = worker.database.async_engine(pool_size=1, max_overflow=0, pool_timeout=2)
        here = AsyncWorker(engine)
        try:
            with here.cache_manager.request():
                async with here.cache_manager.begin() as connection:
                    await connection.execute(select(page.c.name))
                    (found,) = await asyncio.gather(asyncio.wait_for(here.names, 10))
                    assert found == frozenset()
        finally:
            await here.cache_manager.aclose()
            await engine.dispose()

    asyncio.run(main())


# 17. del after the commit, beside a transaction that only reads


@three
@pytest.mark.parametrize(
    ("within", "reader"),
    [
        ("a request", "session"),
        ("a request", "connection"),
        ("a request", "two sessions"),
        ("a request", "session without a connection"),
        ("a script", "session"),
        ("a script", "connection"),
        ("a script", "two sessions"),
    ],
)
def test_del_after_the_commit_beside_a_reader(
    worker: Worker, other: Worker, within: str, reader: str
) -> None:
    """Flask-SQLAlchemy's session has read who is logged in; the page is written by another
    connection, and the `del` comes after that block.  The session ends with the request."""
    assert other.wiki.names == frozenset() == worker.wiki.names
    with worker.cache_manager.request() if within == "a request" else nullcontext():
        readers: list[Any] = [
            worker.engine.connect() if reader == "connection" else Session(worker.engine)
            for _ in range(2 if reader == "two sessions" else 1)
        ]
        for each in readers:
            if reader == "session without a connection":
                each.begin()
            else:
                each.execute(select(page.c.name)).all()
        with Session(worker.engine) as writer:
            writer.execute(page.insert().values(name="A", text="", version=0))
            writer.commit()
        del worker.wiki.names
        for each in readers:
            each.close()
    assert other.wiki.names == {"A"} == worker.wiki.names


@three
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_del_beside_a_reader_that_ends_beside_a_writer(
    worker: Worker, other: Worker, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    """On SQLite the writer has the lock that an invalidation by itself would wait for."""
    with worker.cache_manager.request():
        reader = worker.engine.connect()
        reader.execute(select(page.c.name)).all()
        del worker.wiki.names
        assert other.wiki.names == frozenset()
        with worker.engine.connect() as writer:
            writer.execute(page.insert().values(name="A", text="", version=0))
            began = time.monotonic()
            reader.close()
            assert time.monotonic() - began < 2
            getattr(writer, end)()
    assert other.wiki.names == ({"A"} if end == "commit" else frozenset())
    assert caplog.records == []


@quick
def test_a_reader_that_is_collected_executes_nothing(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection comes in the middle of anything, also where the ledger's lock is held."""
    handed_on: list[Any] = []
    monkeypatch.setattr(worker.cache_manager.core, "hand_on", handed_on.append)
    with worker.cache_manager.request():
        reader = worker.engine.connect()
        reader.execute(select(page.c.name)).all()
        del worker.wiki.names
        del reader
        gc.collect()
        assert worker.cache_manager.core.transactions_around() == []
    assert handed_on == []


@three
@pytest.mark.parametrize("what", ["connection", "session", "objects"])
def test_a_rollback_of_what_was_written_invalidates_nothing(
    worker: Worker, other: Worker, what: str
) -> None:
    assert other.wiki.names == frozenset()
    loads = other.cache_manager.statistics.loads
    row = page.insert().values(name="A", text="", version=0)
    for within in (worker.cache_manager.request(), nullcontext()):
        it: Any = worker.engine.connect() if what == "connection" else Session(worker.engine)
        with within, it:
            if what == "objects":
                it.begin()
                it.add(Page(name="A", text="", version=0))
                del worker.wiki.names
            else:
                it.execute(select(page.c.name)).all()
                del worker.wiki.names
                it.execute(row)
            it.rollback()
    assert other.wiki.names == frozenset()
    assert other.cache_manager.statistics.loads == loads


# 18. one load over several loops: a leader whose loop stands still


@quick
def test_a_leader_whose_loop_was_left(worker: Worker) -> None:
    """`loop.run_until_complete` returns and leaves a load behind; another loop wants the value."""
    engine = worker.database.async_engine()
    manager = CacheManager(engine)
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    tasks = []

    async def slow() -> int:
        await asyncio.sleep(0.2)
        return 1

    async def begin() -> None:
        tasks.append(asyncio.create_task(manager.aget("k", slow)))
        await asyncio.sleep(0.05)

    async def read() -> int:
        return await asyncio.wait_for(manager.aget("k", slow), 3)

    try:
        first.run_until_complete(begin())
        assert second.run_until_complete(read()) == 1
    finally:
        first.run_until_complete(asyncio.wait(tasks))
        first.run_until_complete(manager.aclose())
        second.run_until_complete(manager.aclose())
        second.run_until_complete(engine.dispose())
        first.close()
        second.close()


# 19. a signal handler that empties the memory


@quick
def test_a_signal_handler_that_evicts(worker: Worker, tmp_path: Any) -> None:
    import subprocess
    import sys

    program = f"""
import random, signal
from sqlalchemy import create_engine
from coherent_cache import CacheManager

manager = CacheManager(create_engine("sqlite:///{tmp_path}/other.db"))
manager.create_table()

def reload(*_):
    manager.evict()
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0005, 0.003))

signal.signal(signal.SIGALRM, reload)
signal.setitimer(signal.ITIMER_REAL, 0.001)
with manager.request():
    for number in range(30_000):
        manager.get(f"key {{number}}", lambda: 1)
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    subprocess.run([sys.executable, "-c", program], timeout=30, check=True)


# 20. a private value, and the next thread of the same request


@pytest.mark.on("postgresql")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_private_value_and_the_next_thread_of_the_request(
    worker: Worker, other: Worker, threads: int
) -> None:
    """A dependency and an endpoint in threads of a pool, one after the other, with one session."""

    class Names:
        cache_manager = worker.cache_manager

        @cached
        def names(self) -> frozenset[str]:
            return frozenset(session.scalars(select(page.c.name)))

    names = Names()

    def inside(function: Any) -> Any:
        return in_thread(lambda: context.run(function)) if threads == 2 else function()

    session = Session(worker.engine)
    with worker.cache_manager.request():
        context = copy_context()

        def write() -> Any:
            session.execute(page.insert().values(name="A", text="", version=0))
            del names.names
            return names.names

        seen = [write()]
        in_thread(lambda: other.write("B", ""))
        seen.append(inside(lambda: names.names))
        session.rollback()
        session.close()
    assert seen == [{"A"}, {"A"}]


# 21. a coroutine function that does not look like one


@quick
def test_a_decorated_coroutine_function(worker: Worker) -> None:
    import functools

    def logged(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return function(*args)

        return wrapper

    class Lazy:
        cache_manager = worker.cache_manager

        @cached
        @logged
        async def value(self) -> int:
            return 1

    with pytest.raises(ConfigurationError, match="'async def', also where it is decorated"):
        _ = Lazy().value
