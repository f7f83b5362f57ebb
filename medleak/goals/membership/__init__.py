"""Membership inference: who was trained on."""
