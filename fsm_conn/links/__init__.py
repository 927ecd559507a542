"""Links, which a connection drives: the only package with processes, sockets and gRPC.

`base` is the contract; `rpcplugin` a plugin's process; `grpc` an endpoint that already runs. The modules that
need grpc or pyvider are imported by the first link that needs them, never before.
"""
