"""Models of a run that people talk to: found by name, asked here, served, pushed to the hub; and its tables, handed on."""
