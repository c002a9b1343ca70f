"""Small molecules as SMILES, drawn in bulk and measured by MOSES, the benchmark of that field."""
