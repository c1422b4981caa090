"""Files on disk: written whole or not at all, recognised by the digest of what made them."""
