"""Models of a run that people talk to: found by name, asked here, served to others, pushed to the hub; and tables that are handed on."""
