"""Random programs: several clients against one database, compared with a plain model.

Hypothesis writes the programs and shrinks one that fails to a schedule that can be read.  More of
them: ``COHERENT_CACHE_STATEFUL_EXAMPLES=2000 pytest tests/stateful``.
"""
