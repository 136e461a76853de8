"""TLS settings without certificates, for HTTP clients of servers on this machine.

A client of httpx reads all certificates otherwise: 25 ms of CPU time, though none of these servers has TLS.
"""

from __future__ import annotations

import ssl
from typing import Final

NO_CERTIFICATES: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
