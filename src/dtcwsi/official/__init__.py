"""State dicts of published implementations: one file a repository, loaded by `loading.load_official`."""
