"""Unique columns and constraints."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models.functions import Lower


class Queue(models.Model):
    """Holds things with unique positions."""

    name = models.CharField(max_length=50)


class Turn(models.Model):
    """A position that is unique in its queue and never below zero."""

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE)
    name = models.CharField(max_length=50)
    position = models.PositiveIntegerField()

    class Meta:
        unique_together = [("queue", "position")]


class Rank(models.Model):
    """A small positive position, unique in the whole table."""

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE)
    name = models.CharField(max_length=50)
    position = models.PositiveSmallIntegerField(unique=True)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(position__gte=1), name="kinds_rank_from_one")]


class Floor(models.Model):
    """A unique position with few places."""

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE)
    name = models.CharField(max_length=50)
    position = models.IntegerField(unique=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=models.Q(position__gte=1, position__lte=9), name="kinds_nine_floors")
        ]


class Contact(models.Model):
    """Optional unique columns of which one must be filled."""

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE)
    name = models.CharField(max_length=50)
    phone = models.CharField(max_length=50, unique=True, null=True)
    email = models.CharField(max_length=50, unique=True, null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(phone__isnull=False) | models.Q(email__isnull=False),
                name="kinds_contact_reachable",
            )
        ]


class Letterbox(models.Model):
    """A required unique letter that cannot hold anything longer."""

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE)
    name = models.CharField(max_length=50)
    letter = models.CharField(max_length=1, unique=True)


class Token(models.Model):
    """A unique UUID and an optional unique text."""

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE)
    name = models.CharField(max_length=50)
    value = models.UUIDField(unique=True, default=uuid.uuid4)
    nickname = models.CharField(max_length=50, unique=True, null=True)


class Address(models.Model):
    """At most one default for each queue."""

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE)
    street = models.CharField(max_length=50)
    is_default = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["queue"], condition=models.Q(is_default=True), name="kinds_one_default_address"
            )
        ]


class Coupon(models.Model):
    """A code that is unique among the active ones."""

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE)
    code = models.CharField(max_length=50)
    active = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["code"], condition=models.Q(active=True), name="kinds_one_active_coupon")
        ]


class Isbn(models.Model):
    """A code that is unique whatever its case."""

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE, null=True)
    code = models.CharField(max_length=50)
    title = models.CharField(max_length=50, default="")

    class Meta:
        constraints = [models.UniqueConstraint(Lower("code"), name="kinds_isbn_lower_code")]


class Booking(models.Model):
    """A constraint with a column that may be null."""

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE)
    day = models.IntegerField()
    room = models.IntegerField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["day", "room"], name="kinds_booking_day_room")]


class Topic(models.Model):
    """A unique column that the database computes."""

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE, null=True)
    title = models.CharField(max_length=50)
    text = models.CharField(max_length=50, default="")
    slug = models.GeneratedField(
        expression=Lower("title"),
        output_field=models.CharField(max_length=50),
        db_persist=True,
        unique=True,
    )


class Husband(models.Model):
    """The optional half of a cycle of one-to-one links."""

    name = models.CharField(max_length=50)
    wife = models.OneToOneField("Wife", on_delete=models.SET_NULL, null=True, related_name="+")
    queue = models.ForeignKey(Queue, on_delete=models.CASCADE)


class Wife(models.Model):
    """The required half."""

    name = models.CharField(max_length=50)
    husband = models.OneToOneField(Husband, on_delete=models.CASCADE, related_name="+")


class Wagon(models.Model):
    """A train as a chain of unique links to its own model."""

    queue = models.ForeignKey(Queue, on_delete=models.CASCADE)
    name = models.CharField(max_length=50)
    behind = models.OneToOneField("self", on_delete=models.SET_NULL, null=True, related_name="+")
