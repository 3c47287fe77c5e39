"""Random readers and writers in several processes, and the checker that judges what they saw.

``history``     what is written down, and how a history is told
``writes``      what became of each write
``request``     what a request's next read has to agree with
``anomaly``     what can be wrong with a read, by name
``checker``     names each anomaly in a history
``plan``        what the workers of a run are told
``tiers``       the tiers they may share
``workloads``   what they do
``broken``      caches with a protection taken out, which the checker has to convict
``crew``        starts the workers, and replaces those who die
``disturbers``  what those who interfere with a run are given, and what they owe
``run``         lets the workers work, judges their history, and makes the figures
``rounds``      a run on a database of its own, perhaps with faults
``table``       the figures as lines of a table
``soak``        round after round, for as long as you like

``python -m tests.coherence`` runs it once, ``python -m tests.coherence.soak`` for long.
"""
