"""The Container Device Interface: specs on disk, and what a container gets for a device's name."""
