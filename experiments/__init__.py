"""Measurements that stand in the README and the model card, and the command that makes them all again."""
