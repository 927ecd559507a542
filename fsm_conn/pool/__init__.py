"""Pools of connections. The rooms, from the ground up:

- `lifecycle`: the table of a pool. `policy`: what it may do. `waiters`: the queue.
- `place`: who uses one, and whether it may be leased. `slots`: what fills it. `route`: calls without a lease.
- `lease`: the right to use one for a while. `stats`: the counts.
- `desk`: who gets a connection. `roster`: which connections there are. `keeper`: what the table names.
- `pool`: what applications call.
"""
