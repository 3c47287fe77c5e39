"""A second tier: values that processes and hosts share, as bytes under opaque addresses."""
