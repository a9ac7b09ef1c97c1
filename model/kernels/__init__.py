"""Triton kernels of FP8 training, one file each, with their references beside them or in model.fp8.

`compile` builds them for Hopper without a GPU and reads the machine code, `resources` keeps what it
found, `roofline` says how fast they could be, `rounding` holds what they share. Tensors are row
by row in memory; scales of tiles, [m, k/128], have m innermost (strides (1, m)), since a program
works on one column of them. Undefined and infinite numbers make their tile undefined, no other.
"""
