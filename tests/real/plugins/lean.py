"""The calculator without pyvider's library: all that a host asks a plugin for, and it starts in a third of the time.

For tests of hosts, which start some hundred plugins. What pyvider's plugins do is tested with `fsm_conn.demo.calculator`.
"""

import asyncio
import base64
import datetime
import os
import signal
import sys

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from fsm_conn.demo import calculator_pb2, calculator_pb2_grpc
from fsm_conn.demo.calculator_pb2 import Result

COOKIE = "PLUGIN_MAGIC_COOKIE"


class Calculator(calculator_pb2_grpc.CalculatorServicer):
    async def Add(self, request, context):
        return Result(result=request.a + request.b)

    async def Subtract(self, request, context):
        return Result(result=request.a - request.b)

    async def Multiply(self, request, context):
        return Result(result=request.a * request.b)

    async def Divide(self, request, context):
        if request.b == 0:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "division by zero")
        return Result(result=request.a / request.b)

    async def Count(self, request, context):
        for number in range(1, request.limit + 1):
            yield Result(result=number)

    async def Sum(self, request_iterator, context):
        return Result(result=sum([number.value async for number in request_iterator]))

    async def Accumulate(self, request_iterator, context):
        total = 0.0
        async for number in request_iterator:
            total += number.value
            yield Result(result=total)


def certified(host):
    """Credentials of a server that knows its one client, and what the handshake says of them."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now, day = datetime.datetime.now(datetime.UTC), datetime.timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pair = private, certificate.public_bytes(pem)
    said = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).rstrip(b"=").decode()
    return grpc.ssl_server_credentials([pair], host.encode(), require_client_auth=True), said


async def serve():
    path = os.path.join(os.environ["TMPDIR"], "s.sock")
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)

    async def shutdown(request, context):
        context.add_done_callback(lambda _: ended.set())
        return b""

    server = grpc.aio.server()
    calculator_pb2_grpc.add_CalculatorServicer_to_server(Calculator(), server)
    methods = {"Shutdown": grpc.unary_unary_rpc_method_handler(shutdown)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("plugin.GRPCController", methods),))
    servicer = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for name in ("", "plugin"):
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    name = calculator_pb2.DESCRIPTOR.services_by_name["Calculator"].full_name
    reflection.enable_server_reflection((name, reflection.SERVICE_NAME), server)
    said = ""
    if host := os.environ.get("PLUGIN_CLIENT_CERT", ""):
        credentials, said = certified(host)
        server.add_secure_port(f"unix:{path}", credentials)
    else:
        server.add_insecure_port(f"unix:{path}")
    await server.start()
    print(f"1|1|unix|{path}|grpc|{said}", flush=True)
    await ended.wait()
    os._exit(0)


def main():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if COOKIE not in os.environ:
        sys.exit("this is a plugin, for a host to start")
    asyncio.run(serve())


if __name__ == "__main__":
    main()
