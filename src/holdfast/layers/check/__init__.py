"""The check layer: refuses what no engine may see."""

from holdfast.layers.check.checked import Checked

__all__ = ["Checked"]
