"""The IMAP4 server."""
