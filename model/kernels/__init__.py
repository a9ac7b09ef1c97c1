"""Triton kernels of FP8 training, one file each; `compile` looks at them without a GPU."""
