"""A comm in place of a kernel's, for the tests of widgets."""

from __future__ import annotations

import time

from comm.base_comm import BaseComm


class FakeComm(BaseComm):
    """Keeps what Python sends, and lets a test send what a front end would."""

    opened: list[FakeComm] = []

    def __init__(self, **kwargs):
        self.sent = []
        super().__init__(**kwargs)
        FakeComm.opened.append(self)

    def publish_msg(self, msg_type, data=None, metadata=None, buffers=None, **keys):
        self.sent.append((msg_type, data))

    def receive(self, data):
        self.handle_msg({"content": {"data": data}, "buffers": []})

    def ask(self, method, params=None, request=7):
        content = {"id": request, "method": method, "params": params or {}}
        self.receive({"method": "custom", "content": content})
        answers = [c for c in self.customs() if c.get("reply_to") == request]
        return answers[-1]

    def customs(self):
        return [
            data["content"]
            for kind, data in self.sent
            if kind == "comm_msg" and data.get("method") == "custom"
        ]

    def pushes(self, name):
        return [content["data"] for content in self.customs() if content.get("push") == name]


def shown(widget):
    """Return the widget's comm; the widget is closed at the end of the test."""
    return widget.comm


def until(condition, seconds=5):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)
