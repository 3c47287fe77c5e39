"""What comes from outside: keys, arguments of the command line, what stands in the table."""
