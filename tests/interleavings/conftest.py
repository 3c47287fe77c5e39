"""What is known to be wrong still is run by ``pytest tests/interleavings --holes`` only.

Each of these fails.  One that is mended leaves the list; docs/guarantees.md has them in words.
"""

from __future__ import annotations

import pytest

#: Test → those of its cases that fail, by a part of their names ("": all).
HOLES = {
    # Ledgers and files
    "test_two_files_are_not_committed_at_once": "",
    "test_two_files_become_visible_one_after_the_other": "",
    # Reading
    "test_an_instance_that_equals_another_ones": "",
    # Tasks and the web
    "test_a_request_within_a_request": "",
    "test_two_threads_of_a_request_one_connection": "mariadb",
    "test_websocket_scope_grows": "",
    # Transactions
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--holes", action="store_true", help="only what is known to fail")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    wanted = config.getoption("--holes", default=False)
    here = [item for item in items if "/interleavings/" in item.path.as_posix()]
    left_out = [item for item in here if _is_hole(item) is not bool(wanted)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _is_hole(item: pytest.Item) -> bool:
    part = HOLES.get(item.name.partition("[")[0])
    return part is not None and part in item.name
