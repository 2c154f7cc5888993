"""OCI hook files: read, kept current, matched with containers and put in order.

`definition` and `hook_file` read one file, `index` narrows the definitions for a container, `match`
decides, `registry` keeps the directories current. Injectors and the command line import this room.
"""
