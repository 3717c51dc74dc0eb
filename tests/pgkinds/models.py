"""The models of the test app."""

from __future__ import annotations

from django.contrib.postgres.fields import (
    ArrayField,
    BigIntegerRangeField,
    DateRangeField,
    DateTimeRangeField,
    DecimalRangeField,
    IntegerRangeField,
)
from django.db import models


class Crate(models.Model):
    """Holds samples and steps."""

    name = models.CharField(max_length=50)


class Sample(models.Model):
    """Arrays and ranges."""

    crate = models.ForeignKey(Crate, on_delete=models.CASCADE)
    mark = models.CharField(max_length=50)
    integers = ArrayField(models.IntegerField(null=True), null=True)
    texts = ArrayField(models.TextField(null=True), null=True)
    matrix = ArrayField(ArrayField(models.DecimalField(max_digits=12, decimal_places=3)), null=True)
    moments = ArrayField(models.DateTimeField(), null=True)
    uuids = ArrayField(models.UUIDField(), null=True)
    documents = ArrayField(models.JSONField(), null=True)
    integer_range = IntegerRangeField(null=True)
    big_range = BigIntegerRangeField(null=True)
    decimal_range = DecimalRangeField(null=True)
    date_range = DateRangeField(null=True)
    moment_range = DateTimeRangeField(null=True)


class Step(models.Model):
    """A position whose constraint is deferred."""

    crate = models.ForeignKey(Crate, on_delete=models.CASCADE)
    name = models.CharField(max_length=50)
    position = models.IntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["crate", "position"],
                name="pgkinds_step_position",
                deferrable=models.Deferrable.DEFERRED,
            )
        ]


class Berth(models.Model):
    """An optional place, of which a crate has one at most that is not known."""

    crate = models.ForeignKey(Crate, on_delete=models.CASCADE)
    name = models.CharField(max_length=50)
    place = models.IntegerField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["crate", "place"], name="pgkinds_berth_place", nulls_distinct=False)
        ]
