"""The pages: what is read (browsing, history), what is written (editing), and the settings (admin)."""
