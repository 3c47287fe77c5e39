"""How fast coherent_cache is, and how far it is from the limit.

``python -m benchmarks`` runs everything and prints the tables, ``python -m benchmarks hit check``
runs a part, ``--quick`` shortens it.  Each run leaves a record in ``benchmarks/results``;
``--compare A B`` shows two of them side by side, ``python -m benchmarks.plots`` draws one.

One small file a benchmark, whose docstring says what it does and what the limit is; a benchmark
is a module with ``run(options)`` that yields `tables.Table`, named in `registry.NAMES`.
"""
