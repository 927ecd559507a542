"""Pools of connections: a table of their own, slots that are connections, leases, and those who wait for one."""
