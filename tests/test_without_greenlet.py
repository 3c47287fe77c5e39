"""SQLAlchemy's asyncio needs greenlet, which is not installed with it everywhere."""

import subprocess
import sys


def test_import_and_use_without_greenlet() -> None:
    story = """
import sys
sys.modules["greenlet"] = None
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from coherent_cache import CacheManager
manager = CacheManager(create_engine("sqlite://"))
manager.create_table()
assert manager.get("a", lambda: 1) == 1
with Session(manager.engine) as session:
    manager.invalidate("a", session=session)
    session.commit()
assert manager.get("a", lambda: 2) == 2
"""
    run = subprocess.run([sys.executable, "-c", story], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
