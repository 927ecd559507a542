"""The calculator, which writes down that it was asked to end, and that it has done what it does at its end."""

import sys

from pyvider.rpcplugin.protocol.service import GRPCControllerService

from fsm_conn.demo import calculator

asked = []
shutdown = GRPCControllerService.Shutdown


async def heard(self, request, context):
    asked.append("asked, ")
    return await shutdown(self, request, context)


GRPCControllerService.Shutdown = heard
try:
    calculator.main()
finally:
    with open(sys.argv[1], "w") as file:
        file.write("".join(asked) + "cleaned up")
