"""The Container Device Interface: specs on disk, and what a container gets for a device's name.

`registry` keeps the specs current, `spec` reads one, `lookup` finds the devices of names, `resolve`
makes an adjustment of their edits, `oci` edits an OCI specification, `lint` finds what works and is
unwise. Injectors and the command line import this room.
"""
