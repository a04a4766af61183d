"""Serializer fields and checks that several apps share."""

from __future__ import annotations

import json
from typing import Any

from rest_framework import serializers

__all__ = ["MAX_JSON_BYTES", "StrictSerializer", "plain_object"]

MAX_JSON_BYTES = 64 * 1024


class StrictSerializer(serializers.Serializer[Any]):
    """Refuses fields that it does not know, so that a typing error is not lost in silence."""

    def to_internal_value(self, data: Any) -> Any:
        """Return the validated fields.

        Raises
        ------
        rest_framework.exceptions.ValidationError
            Naming each field that is unknown or wrong.
        """
        if isinstance(data, dict):
            unknown = [str(name) for name in data if name not in self.fields]
            if unknown:
                known = ", ".join(sorted(self.fields))
                raise serializers.ValidationError(
                    {name: [f"There is no such field; the fields are {known}."] for name in unknown}
                )
        return super().to_internal_value(data)


def plain_object(value: Any) -> Any:
    """Check that a JSON value is an object that PostgreSQL can store, of at most 64 KiB.

    Raises
    ------
    rest_framework.exceptions.ValidationError
        Otherwise.
    """
    if not isinstance(value, dict):
        raise serializers.ValidationError("This must be an object.")
    text = json.dumps(value)
    if len(text) > MAX_JSON_BYTES:
        raise serializers.ValidationError("This is larger than 64 KiB.")
    if "\\u0000" in text:
        raise serializers.ValidationError("NUL characters are not allowed.")
    return value
