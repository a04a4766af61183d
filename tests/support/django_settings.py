"""The backend's own settings, pointed at the test session's state folder.

The variables are set only while the settings are read, so that stacks started by other tests do
not inherit them.
"""

import os

from tests.support.session import SESSION_HOME, session_environment

_before = {name: os.environ.get(name) for name in session_environment()}
os.environ.update(session_environment())
try:
    from rootbound_backend.settings import *  # noqa: F403
finally:
    for _name, _value in _before.items():
        if _value is None:
            os.environ.pop(_name, None)
        else:
            os.environ[_name] = _value

assert SESSION_HOME.is_dir()
