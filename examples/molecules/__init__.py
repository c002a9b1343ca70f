"""Small molecules as SMILES, drawn in bulk and held against MOSES, the benchmark of that field."""
