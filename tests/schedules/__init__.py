"""Exact schedules: which thread stands where while another one acts, written as a list of steps.

The moments are those that the library names (`coherent_cache.points`), and those that a test names
itself.  Nothing depends on luck, and nothing sleeps: a step is over when it has happened.
"""
