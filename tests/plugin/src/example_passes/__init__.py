"""Passes of the example plug-in: one public module each; a module named ``_…`` is a helper."""
