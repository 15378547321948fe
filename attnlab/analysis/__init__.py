"""Analyses of what a model attends to: pure functions of captured arrays, or of a function `embedded -> score`."""
