"""Pools of connections. The rooms, from the ground up:

- `lifecycle`: the table of a pool. `policy`: what it may do. `waiters`: the queue.
- `slots`: one place, and the connection that fills it. `lease`: the right to use one for a while. `stats`: the counts.
- `desk`: who gets a connection. `roster`: which connections there are. `keeper`: what the table names.
- `pool`: what applications call.
"""
