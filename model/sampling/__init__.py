"""The next id from logits: parameters, sampler, probabilities, seeded random numbers."""
