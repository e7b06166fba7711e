"""Techniques without a registry of their own: a config key, or a command.

The catalog lists them beside the registries' entries. A test that proves one
says `PROVES = ("feature:NAME",)`.
"""

from . import commands, model, training
from .feature import Feature

__all__ = ["FEATURES", "Feature"]

FEATURES = commands.FEATURES | model.FEATURES | training.FEATURES
