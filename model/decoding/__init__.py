"""A checkpoint ready to step: weights in 8 bits, the numpy reference, the compiled kernel, the GPU."""
