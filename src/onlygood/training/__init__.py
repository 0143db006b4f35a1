"""The only room that calls backward and step; knows `core.Method`, never a method."""

from onlygood.training.trainer import History, Trainer

__all__ = ["History", "Trainer"]
