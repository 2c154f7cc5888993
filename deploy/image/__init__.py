"""The container image of the DaemonSet: Debian's Python, the locked packages, and nri-inject.

`make image` runs `build`, and `make lock` runs `lock`. Neither needs root, a container engine or a
registry.
"""
