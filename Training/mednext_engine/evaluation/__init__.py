"""Scores of label maps against a reference, per label, and pictures of them over the image."""

from __future__ import annotations

from .metrics import LabelScore, dice, hausdorff95, score_label, surface_dice

__all__ = ["LabelScore", "dice", "hausdorff95", "score_label", "surface_dice"]
