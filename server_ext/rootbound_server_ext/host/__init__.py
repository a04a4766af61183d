"""The host: carries Rootbound's HTTP and WebSocket routes from Jupyter to the backend process.

Jupyter decides who may ask (identity provider, authorizer, XSRF, origin); the backend, reached over
a unix socket, does the work. Nothing of Jupyter's own credentials crosses that socket: each request
carries a short-lived signed identity instead.
"""

from __future__ import annotations
