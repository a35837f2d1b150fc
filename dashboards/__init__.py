# SPDX-License-Identifier: Apache-2.0
"""Grafana dashboards and alert rules as code. Only building them needs Python 3.11 and the dev extra."""
