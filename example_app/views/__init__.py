"""The pages: what is read (browsing, history), what is written (editing), the settings (admin)."""
