"""What goes wrong in real life, brought about while the workload runs.

``catalogue``  the faults by name, and on which databases each can happen
``stage``      the run that is prepared for them
``striking``   a disturber that strikes now and then
``moments``    exact moments inside a worker
``audit``      sees in the database what committed without anybody being told
``aftermath``  what went on after the last fault
``servers``    database servers that can be killed
``tier``       what happens to a tier, and ``forging``: somebody who writes to it without a key
``broken``     caches that are right until something goes wrong

The others bring about one fault each.  A worker that dies is replaced, a request that ends by an
error is a request that ended; what is not forgiven is a wrong answer, and that nothing goes on.
"""
