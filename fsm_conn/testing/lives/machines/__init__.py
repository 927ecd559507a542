"""The life of any machine: its steps, its simulated activities, and what triggers are fired with."""
