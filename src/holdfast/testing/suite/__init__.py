"""Every case of the suite. An engine's test module imports all of them."""

from holdfast.testing.suite.conversations import TestConversations
from holdfast.testing.suite.kv import TestKeyValue
from holdfast.testing.suite.messages import TestMessages
from holdfast.testing.suite.participants import TestParticipants

__all__ = [
    "TestConversations",
    "TestKeyValue",
    "TestMessages",
    "TestParticipants",
]
