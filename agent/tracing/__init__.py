"""Convert kernel records to the spawns and stalls of the model."""
