"""Constant learning rate (Robbins and Monro 1951)."""


def constant(step, steps, warmup, options):
  del step, steps, warmup, options
  return 1.0
