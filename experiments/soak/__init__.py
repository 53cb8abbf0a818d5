"""Faults done on purpose, and what came of them: kill -9, full disks, hostile files, two at once, signals, nonsense.

Each fault is a function that takes an `Asked` and returns {tried, survived, lost, note}; lost should be 0.
"""
