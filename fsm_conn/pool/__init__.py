"""Pools of connections. A pool holds its parts; each can be read alone:

- `table`: the life of the pool. `slot_table`: the life of one of its slots. `policy`: what the pool may do.
- `slot`: one connection, and who uses it. `slots`: which there are, and what is to be started for who waits.
- `waiters`: the queue. `leases`: who gets a slot. `lease`: the right to use one. `calls`: calls without a lease.
- `supervisor`: what becomes of slots. `drain`: the end. `hooks`: what the application has to say, with limits.
- `stats`: the counts. `gate`: who is served. `pool`: what applications call.
"""
