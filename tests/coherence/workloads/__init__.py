"""What workers do.  A workload is put together from small parts:

``tables``      the application's tables, and engines at an isolation level
``environment`` what an application's objects find their cache and database by
``attributes``  its cached attributes
``work``        an open transaction, through Core or the ORM
``client``      one thread or task: it reads, writes and invalidates, and writes that down
``reading``, ``writing``, ``holding``, ``upkeep``  kinds of requests
``catalogue``   the workloads, each with a name
``worker``      a process that runs one

Everything that may wait is written once, as a coroutine.  Where the application is synchronous
nothing in it ever waits, and `environment.drive` runs it through in a thread.
"""
