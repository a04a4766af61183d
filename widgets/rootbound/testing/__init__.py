"""A model server for tests and demonstrations that needs no key and no network.

`ModelStub` is a real HTTP server on the loopback interface. It speaks the OpenAI-compatible
wire (GLM) and the Gemini wire, streamed and whole, checks histories as strictly as the
vendors do, replays a `Script`, and can fail in every way a vendor fails. It needs the
`server` extra of the distribution.
"""

from rootbound.testing.model_stub import ModelStub, RecordedRequest
from rootbound.testing.script import (
    Conversation,
    Fault,
    FaultKind,
    Message,
    Routed,
    Script,
    ScriptError,
    Step,
    Steps,
    ToolCall,
    ToolResult,
    ToolSpec,
    Turn,
)

__all__ = [
    "Conversation",
    "Fault",
    "FaultKind",
    "Message",
    "ModelStub",
    "RecordedRequest",
    "Routed",
    "Script",
    "ScriptError",
    "Step",
    "Steps",
    "ToolCall",
    "ToolResult",
    "ToolSpec",
    "Turn",
]
