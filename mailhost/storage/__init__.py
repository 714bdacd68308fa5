"""Where mail lies: Maildir++ files with an SQLite index beside them."""
