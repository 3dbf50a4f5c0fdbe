"""The passes that come with graphkit: one public module, one pass, named after it."""
