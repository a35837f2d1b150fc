# SPDX-License-Identifier: Apache-2.0
"""Convert kernel records to the spawns and stalls of the model."""
