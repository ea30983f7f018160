"""Outlier features in your own model: a probe for any module, and a callback for the trainer of `transformers`.

from reproduce.hooks import outlier_probe             any module, any loop
from reproduce.hooks.trainer import OutlierCallback   transformers.Trainer
"""

from reproduce.hooks.probe import OutlierProbe, outlier_probe

__all__ = ["OutlierProbe", "outlier_probe"]
