"""Attention maps and training curves as pictures (PNG, without a screen) and as self-contained HTML pages."""
