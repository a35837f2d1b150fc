"""Grafana dashboards and alert rules as code; needs Python 3.11 and the dev extra, at build time only."""
