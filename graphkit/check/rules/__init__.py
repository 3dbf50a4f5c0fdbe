"""The rules that come with graphkit: one file each, found by the entry point group ``graphkit.rules``."""
