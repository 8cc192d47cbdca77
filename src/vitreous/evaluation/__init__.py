"""Scores from logits and labels."""
