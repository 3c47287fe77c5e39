"""`site` under Starlette: the same functions, in the threads of its pool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from anyio.to_thread import current_default_thread_limiter
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from coherent_cache.asgi import CacheMiddleware

from .serving import THREADS
from .site import Site


def create_app() -> Starlette:
    """What uvicorn calls in each worker."""
    site = Site()

    def endpoint(function: Callable[[str], str]) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            site.begin_request()
            try:
                return HTMLResponse(function(request.path_params["name"]))
            finally:
                site.end_request()

        return answer

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        current_default_thread_limiter().total_tokens = THREADS
        yield

    middleware = []
    if site.cache_manager is not None:
        middleware.append(Middleware(CacheMiddleware, manager=site.cache_manager))
    return Starlette(
        routes=[
            Route("/wiki/{name}", endpoint(site.show)),
            Route("/load/edit/{name}", endpoint(site.edit), methods=["POST"]),
            Route("/load/abort/{name}", endpoint(site.abort), methods=["POST"]),
        ],
        middleware=middleware,
        lifespan=lifespan,
    )
