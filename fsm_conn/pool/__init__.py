"""Pools of connections. A pool consists of these parts; each can be read alone:

- `table`: the life of the pool. `slot_table`: the life of one of its slots. `policy`: what the pool may do.
- `slot`: one connection and its users. `slots`: the set of slots, and what to start for waiting callers.
- `waiters`: the queue. `leases`: who gets a slot. `lease`: the right to use one. `calls`: calls without a lease.
- `supervisor`: wakes, replaces and closes slots. `drain`: the end. `hooks`: the application's hooks, with limits.
- `stats`: the counts. `gate`: admits callers. `pool`: what applications call.
"""
