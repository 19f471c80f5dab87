"""On PYTHONPATH, this cuts Python off from all hosts but this one: kernels talk over loopback."""

import socket

_connect = socket.socket.connect
_getaddrinfo = socket.getaddrinfo


def _local(host) -> bool:
    return str(host) in ("localhost", "127.0.0.1", "::1", "None", "")


def connect(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and not _local(address[0]):
        raise OSError(f"the tests run without a network; something asked for {address[0]}")
    return _connect(self, address)


def getaddrinfo(host, *args, **kwargs):
    if not _local(host.decode() if isinstance(host, bytes) else host):
        raise socket.gaierror(f"the tests run without a network; something asked for {host}")
    return _getaddrinfo(host, *args, **kwargs)


socket.socket.connect = connect
socket.getaddrinfo = getaddrinfo
