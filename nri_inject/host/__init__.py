"""The node as it is now: device nodes, files, devices, and the users who could change them.

Every path goes through `walk`. `model` has the values, `nodes` the mappings that look at the real
host, `trust` the judgement of owners, `views` the other paths at which mounts show a file. `watch`
reports changes, `follow` reads changed files again, `devices` finds devices by what they are. This
room knows nothing of policies, specs and plugins; every room above may import it.
"""
