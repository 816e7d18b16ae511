"""``custody log``: verify, read and watch the transparency log. One file per command, or per few that share a table."""
