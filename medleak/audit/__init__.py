"""Audits without a grid: given scores, stored logits."""
