"""What an attempt changes against its base, as the LDA says it."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

__all__ = ["DiffSerializer"]

_KINDS = ["added", "modified", "deleted"]


class MetadataChangeSerializer(serializers.Serializer[Any]):
    """A value of a notebook's metadata, or of a cell's, that is another one now."""

    key = serializers.CharField(help_text="Its name; `cell_type` and attachments count as such.")
    before = serializers.CharField(allow_null=True, help_text="As JSON, cut; null: not there.")
    after = serializers.CharField(allow_null=True, help_text="As JSON, cut; null: not there.")


class PictureChangeSerializer(serializers.Serializer[Any]):
    """A picture of an output that is another one now."""

    mime = serializers.ChoiceField(choices=["image/png", "image/jpeg"])
    before = serializers.CharField(allow_null=True, help_text="Base64; null: none, or left out.")
    after = serializers.CharField(allow_null=True, help_text="Base64; null: none, or left out.")
    left_out = serializers.BooleanField(help_text="Whether one is too large, or is no picture.")


class NotebookOutputSerializer(serializers.Serializer[Any]):
    """An output of a cell that is another one now."""

    kind = serializers.ChoiceField(choices=_KINDS)
    name = serializers.CharField(
        help_text="`stdout`, `stderr`, an exception's name, or the kind of output."
    )
    patch = serializers.CharField(help_text="Hunks of its text, colours left out.")
    truncated = serializers.BooleanField()
    pictures = PictureChangeSerializer(many=True)
    others = serializers.ListField(
        child=serializers.CharField(), help_text="MIME types that differ and are not shown."
    )


class NotebookCellSerializer(serializers.Serializer[Any]):
    """A cell that was changed."""

    kind = serializers.ChoiceField(choices=[*_KINDS, "moved"])
    cell_type = serializers.ChoiceField(choices=["code", "markdown", "raw"])
    cell_id = serializers.CharField()
    execution_count = serializers.IntegerField(allow_null=True)
    before = serializers.IntegerField(allow_null=True, help_text="Its number, from 1.")
    after = serializers.IntegerField(allow_null=True, help_text="Its number, from 1.")
    before_line = serializers.IntegerField(
        allow_null=True,
        help_text="Where it begins in the notebook's text before: its source follows that line.",
    )
    after_line = serializers.IntegerField(
        allow_null=True,
        help_text="Where it begins in the notebook's text now; comments are at lines of that text.",
    )
    patch = serializers.CharField(
        help_text="Hunks of its source, with the line numbers of the notebook's text."
    )
    truncated = serializers.BooleanField()
    outputs = NotebookOutputSerializer(many=True)
    metadata = MetadataChangeSerializer(many=True)


class NotebookDiffSerializer(serializers.Serializer[Any]):
    """What changed in a notebook, cell by cell; what is the same is left out."""

    cells = NotebookCellSerializer(many=True)
    metadata = MetadataChangeSerializer(many=True, help_text="Of the notebook as a whole.")
    note = serializers.CharField(
        allow_null=True,
        help_text="Why cells are left out, or the notebook is not compared by cell.",
    )


class DiffFileSerializer(serializers.Serializer[Any]):
    """One changed file."""

    path = serializers.CharField()
    old_path = serializers.CharField(allow_null=True)
    status = serializers.ChoiceField(choices=[*_KINDS, "renamed"])
    additions = serializers.IntegerField()
    deletions = serializers.IntegerField()
    binary = serializers.BooleanField()
    patch = serializers.CharField(allow_null=True)
    truncated = serializers.BooleanField()
    test = serializers.BooleanField(
        required=False, help_text="Whether the file, by its name, is a test."
    )
    by_cell = serializers.BooleanField(
        required=False, help_text="Whether the patch is of a notebook's cells, not of its JSON."
    )
    notebook = NotebookDiffSerializer(
        required=False, help_text="What changed in a notebook, cell by cell; with outputs."
    )


class DiffStatsSerializer(serializers.Serializer[Any]):
    """The size of a diff."""

    files = serializers.IntegerField()
    additions = serializers.IntegerField()
    deletions = serializers.IntegerField()


class DiffSerializer(serializers.Serializer[Any]):
    """What an attempt changes against its base."""

    base = serializers.CharField()
    head = serializers.CharField()
    files = DiffFileSerializer(many=True)
    stats = DiffStatsSerializer()
