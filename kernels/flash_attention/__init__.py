"""Softmax attention; choose an implementation through `kernels.dispatch`."""
