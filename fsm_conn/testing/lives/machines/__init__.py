"""The life of any machine: its steps, its simulated activities, and the data for its triggers."""
