"""What reads event sources for functions: one poller for each event source mapping that is enabled."""
