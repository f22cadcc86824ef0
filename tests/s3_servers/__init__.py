"""Real S3 servers on loopback, started and killed by the tests and by `make demo`. Nothing here needs pytest.

Two rules:

1. A server is the real thing or it is not here. What it does wrong is written down as a `Weakness`, and the suite
   expects exactly that: a weakness that goes away fails a test as loudly as one that comes.
2. A server's processes are killed by their own ids, and by the kernel if the test process dies.
"""

from tests.s3_servers.ceph import CephServer
from tests.s3_servers.faulty import FaultyProxy
from tests.s3_servers.rclone import RcloneServer
from tests.s3_servers.server import S3Server, ServerMissing, Weakness, running
from tests.s3_servers.swift import SwiftServer

__all__ = [
    "CephServer",
    "FaultyProxy",
    "RcloneServer",
    "S3Server",
    "ServerMissing",
    "SwiftServer",
    "Weakness",
    "running",
]
