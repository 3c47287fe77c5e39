"""coherent_cache: in-process caching that stays coherent with the SQL database."""

__version__ = "0.1.0"
