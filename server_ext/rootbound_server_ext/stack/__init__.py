"""The services under Rootbound: PostgreSQL, Redis, backend, Celery worker and beat, and the LDA.

`api` starts, finds and stops them; `guard` is the process that watches them.
"""

from rootbound_server_ext.stack.errors import StackError

__all__ = ["StackError"]
