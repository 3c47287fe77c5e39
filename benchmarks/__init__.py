"""How fast coherent_cache is, and how far it is from the limit.

``python -m benchmarks`` runs everything and prints the tables, ``python -m benchmarks hit check``
runs a part, ``--quick`` shortens it.  Each run leaves a record in ``benchmarks/results``;
``--show A`` prints one, ``--compare A B`` shows two side by side, ``python -m benchmarks.plots``
draws them.

One small file a benchmark, whose docstring says what it does and what the limit is; a benchmark
is a module with ``run(options)`` that yields `tables.Table`, named in `registry.NAMES`.
"""
