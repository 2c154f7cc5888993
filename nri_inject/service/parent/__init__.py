"""A process that holds the runtime's connection and outlives the worker that serves it.

`process` waits and replaces workers, `worker` forks them, `link` moves the bytes of a connection,
`relay` decides what is for whom when a worker dies, `messages` cuts bytes into whole messages,
`naming` says which container a request is about, and `system` asks the kernel. `upgrade` replaces
the process by another version, which `trial` tries before and starts, with the state of `handover`.
"""
