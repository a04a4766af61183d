"""The modules under test import models, so Django must be set up; no database is used."""

from __future__ import annotations

import django

django.setup()
