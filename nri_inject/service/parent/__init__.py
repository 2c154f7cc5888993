"""A process that holds the runtime's connection and outlives the worker that serves it.

`messages` cuts bytes into whole messages, `naming` says which container a request is about, `relay`
decides what goes where when a worker dies, `system` asks the kernel, and `process` forks and waits.
"""
