"""Analysis of attention and of attributions: pure functions of arrays, or of a plain function that runs the model."""
