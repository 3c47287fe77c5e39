"""The second tier: values shared between processes and hosts, and what survives a restart."""
