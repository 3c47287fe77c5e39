"""Random readers and writers in several processes, and the checker that judges what they saw.

``history``   what is written down, and how a history is told
``writes``    what became of each write
``checker``   names each anomaly in a history
``plan``      what the workers of a run are told
``workload``  what a worker process does
``broken``    caches with a protection taken out, which the checker has to convict
``crew``      starts the workers, and replaces those who die
``disturbers``  what those who interfere with a run are given, and what they owe
``run``       lets the workers work, judges their history, and makes the figures

``python -m tests.coherence --help`` runs it.
"""
