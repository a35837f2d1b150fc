"""Pictures of the dashboards: a tool for who changes them, see preview.py."""
