"""Read and validate configuration files."""
