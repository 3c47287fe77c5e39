"""Protections taken out on purpose, and the tests that must notice.

``python -m tests.mutants [name ...]`` applies each mutant to a copy of the package and runs its
tests against it: every one has to fail there.
"""
