"""Which form of a hit is in use: `getters` alone, or a compiled one before them.

The compiled one, ``_hit.c``, is a `property` that looks into the view's memo itself.  It is there
if the package was built with it (``hatch_build.py``), and left alone if COHERENT_CACHE_PURE=1.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .memo import current_memo

if TYPE_CHECKING:
    Property = property
    #: Whether hits are found by the compiled form.
    COMPILED: bool
else:
    Property = property
    if os.environ.get("COHERENT_CACHE_PURE") != "1":
        try:
            from ._hit import Property
        except ModuleNotFoundError:  # one that is there and cannot be loaded is an error
            pass
    COMPILED = Property is not property


def answer_from_memo(attribute: property, index: int, *keyed: Any) -> None:
    """Tell the compiled form that hits of *attribute* are at *index* of the memo.

    :param keyed: for a keyed attribute, the name of its part, and what its getter calls with an
        instance and a part if the memo has another part or none.
    """
    if COMPILED:
        attribute._answer_from(current_memo, index, *keyed)  # type: ignore[attr-defined]
