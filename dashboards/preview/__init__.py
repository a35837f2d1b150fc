# SPDX-License-Identifier: Apache-2.0
"""Pictures of the dashboards, to review a change: see preview.py."""
