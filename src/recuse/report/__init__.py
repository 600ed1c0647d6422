"""What people look at: pages, tables and figures, computed from records alone (no torch)."""
