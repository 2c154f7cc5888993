"""End-to-end tests: the plugins against real containerd daemons."""
