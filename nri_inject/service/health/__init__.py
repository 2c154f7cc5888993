"""The health of a running plugin: status socket, metrics, systemd, and missed containers.

`supervisor` wraps a service with all of them; no service imports this room.
"""
