"""Problems that ask about steps of samples, and traces that state the answers of problems: what judges of steps learn from."""
