"""The admin API and the pages on it: what the server's owner sees and changes, behind a key of its own."""
