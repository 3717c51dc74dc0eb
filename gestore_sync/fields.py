"""Model fields of our own."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import models
from django.utils import timezone


class AwareDateTimeField(models.DateTimeField):  # type: ignore[type-arg]
    """A moment that is aware in Python also where ``USE_TZ`` is False.

    The column is Django's own; where ``USE_TZ`` is False it holds what the clock on the wall of ``TIME_ZONE`` showed.
    """

    def from_db_value(self, value: datetime | None, expression: Any, connection: Any) -> datetime | None:
        """The value of the database, with a time zone."""
        if value is None or timezone.is_aware(value):
            return value
        return timezone.make_aware(value, timezone.get_default_timezone())

    def get_prep_value(self, value: Any) -> Any:
        """The value as the database takes it under this ``USE_TZ``."""
        moment = self.to_python(value)
        if moment is not None and timezone.is_aware(moment) and not settings.USE_TZ:
            return timezone.make_naive(moment, timezone.get_default_timezone())
        return super().get_prep_value(value)

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        """The value; the moment of saving where the field says ``auto_now`` or ``auto_now_add``."""
        if self.auto_now or (self.auto_now_add and add):
            value = now()
            setattr(model_instance, self.attname, value)
            return value
        return getattr(model_instance, self.attname)


class Prefix(models.Func):
    """The first characters of a text, as an index has them: with the number written out, not as a parameter."""

    function = "SUBSTR"
    template = "%(function)s(%(expressions)s, 1, 64)"
    output_field = models.TextField()


def now() -> datetime:
    """This moment, aware whatever ``USE_TZ`` says."""
    return datetime.now(tz=timezone.get_default_timezone())
