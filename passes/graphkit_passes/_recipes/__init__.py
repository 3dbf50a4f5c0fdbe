"""Recipes that come with graphkit: `graphkit rewrite --recipe trt` runs `trt.toml`."""
