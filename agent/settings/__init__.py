"""Configuration files, checked."""
