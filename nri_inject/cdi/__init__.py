"""The Container Device Interface: specs on disk, and the edits that a container gets for a device.

`registry` keeps the specs current, `spec` reads one, `lookup` finds the devices of names, `resolve`
makes an adjustment of their edits, `oci` edits an OCI specification, `lint` finds what works and is
unwise. Injectors and the command line import this room.
"""
