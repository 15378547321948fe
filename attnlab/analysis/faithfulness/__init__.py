"""Faithfulness: whether attributions, attention weights among them, tell which tokens the model's output depends on.

Functions see one example; `jax.vmap` adds a batch. The model is a plain function: `predict(removed [m n]) -> [m]`. It
returns the target's probability for m versions of one text of n tokens, each without the tokens that are marked True.
What "removed" means (replaced by padding, dropped, masked in attention) is up to the function, and should be reported.

A call has up to n + 1 versions; for long texts let `predict` run them in parts, with `jax.lax.map(…, batch_size=…)`.
"""
