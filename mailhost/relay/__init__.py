"""Mail for other domains: routes, connections, transactions."""
