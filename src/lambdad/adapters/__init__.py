"""The ports, kept with real things: files, SQLite, processes; and their in-memory twins."""
