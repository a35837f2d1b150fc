"""Read what the host knows of its processes."""
