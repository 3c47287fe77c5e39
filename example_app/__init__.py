"""A small wiki that shows what coherent_cache is for.

Read it in this order: ``wiki.py`` (what is cached), ``edits.py`` (what each edit
invalidates), ``app.py`` (how the parts are put together), then ``views/``.
"""

from .app import create_app

__all__ = ["create_app"]
