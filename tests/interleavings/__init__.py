"""Interleavings that a reading of the whole code found, and that were wrong when it was made."""
