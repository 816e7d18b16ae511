"""What fulfils the ports: stores, ledgers, notifiers and secrets, chosen by URL; and a tool's home on disk."""
