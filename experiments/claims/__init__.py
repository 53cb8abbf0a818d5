"""The paper's claims, each tried small (`python -m experiments.claims`): what was tried, and what came of it."""
