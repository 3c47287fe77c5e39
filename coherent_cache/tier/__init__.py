"""What leaves the process: values as bytes, for a store that processes share or a file."""
