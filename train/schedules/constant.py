"""Constant learning rate (Robbins and Monro 1951)."""


def constant(step, steps, options):
  del step, steps, options
  return 1.0
