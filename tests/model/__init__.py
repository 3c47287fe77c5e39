"""The protocol as a model for SPIN, and the mutants of the model.

``python -m tests.model`` checks it and prints a table; ``--wide`` takes larger bounds, and
``--story MUTANT`` tells the shortest way in which a mutant goes wrong.  See "The model" in
docs/protocol.md.

It stands among the tests, and not at the top, because that is what it is: nothing of it is
installed, and what runs it is a test.
"""
