"""Analyses of attention: pure functions of captured arrays, and of functions of a model."""
