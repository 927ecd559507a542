"""What a connection drives: processes, sockets and gRPC, and nothing of them anywhere else.

`base` is the contract; `rpcplugin` a plugin's process; `grpc` an endpoint that already runs. The modules that
need grpc or pyvider are imported by the first link that needs them, never before.
"""
