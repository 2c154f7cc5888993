"""The Container Device Interface: specs on disk, and what a container gets for a device's name.

`registry` keeps the specs current, `spec` reads one, `resolve` turns names into an adjustment,
`oci` edits an OCI specification, `lint` finds what works and is unwise. Injectors and the command
line import this room.
"""
