"""The Helm chart: its values, every object it makes, its pods as processes; `make chart-proof` runs all of it."""
