"""Pictures of the dashboards, to review a change: see preview.py."""
