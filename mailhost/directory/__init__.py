"""Who exists: domains, accounts, aliases, credentials, and how a login is proven."""
