"""Snapshots: what a process had in memory, for the one that starts after it."""

from .config import Snapshot

__all__ = ["Snapshot"]
