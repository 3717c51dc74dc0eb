"""Primary keys of every kind."""

from __future__ import annotations

import uuid

from django.db import models

from tests.kinds.models.links import Person


class Gadget(models.Model):
    """An automatic primary key with another name."""

    number = models.AutoField(primary_key=True)
    name = models.CharField(max_length=50)


class GadgetPart(models.Model):
    """Links to it."""

    part_number = models.BigAutoField(primary_key=True)
    gadget = models.ForeignKey(Gadget, on_delete=models.CASCADE)
    name = models.CharField(max_length=50)


class Coin(models.Model):
    """An automatic primary key that is small."""

    number = models.SmallAutoField(primary_key=True)
    name = models.CharField(max_length=50)


class Badge(models.Model):
    """Its primary key is a one-to-one link."""

    person = models.OneToOneField(Person, on_delete=models.CASCADE, primary_key=True)
    text = models.CharField(max_length=50)


class BadgeHolder(models.Model):
    """Links to a primary key that is a link, and has such a primary key too."""

    badge = models.OneToOneField(Badge, on_delete=models.CASCADE, primary_key=True)
    neighbour = models.ForeignKey(Badge, on_delete=models.SET_NULL, null=True, related_name="+")
    text = models.CharField(max_length=50)


class Asset(models.Model):
    """A UUID as its primary key."""

    uid = models.UUIDField(primary_key=True, default=uuid.uuid4)
    title = models.CharField(max_length=50)


class AssetFile(models.Model):
    """Links to a UUID."""

    asset = models.ForeignKey(Asset, on_delete=models.CASCADE)
    name = models.CharField(max_length=50)


class Shelf(models.Model):
    """A many-to-many table between a number and a UUID."""

    name = models.CharField(max_length=50)
    assets = models.ManyToManyField(Asset)


class Page(models.Model):
    """A text as its primary key."""

    path = models.CharField(max_length=200, primary_key=True)
    title = models.CharField(max_length=50)


class PageLink(models.Model):
    """Links to texts."""

    page = models.ForeignKey(Page, on_delete=models.CASCADE)
    to = models.ForeignKey(Page, on_delete=models.CASCADE, null=True, related_name="backlinks")
    text = models.CharField(max_length=50)


class Star(models.Model):
    """A big integer as its primary key, given by the application."""

    number = models.BigIntegerField(primary_key=True)
    name = models.CharField(max_length=50)


class Planet(models.Model):
    """Links to a big integer."""

    star = models.ForeignKey(Star, on_delete=models.CASCADE)
    name = models.CharField(max_length=50)


class Moment(models.Model):
    """A point in time as its primary key."""

    at = models.DateTimeField(primary_key=True)
    name = models.CharField(max_length=50)


class Event(models.Model):
    """Links to a point in time."""

    moment = models.ForeignKey(Moment, on_delete=models.CASCADE)
    name = models.CharField(max_length=50)


class Galaxy(models.Model):
    """An automatic big integer."""

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=50)
    parent = models.ForeignKey("self", on_delete=models.CASCADE, null=True)


class Hall(models.Model):
    """Part of a composite primary key."""

    name = models.CharField(max_length=50)


class Seat(models.Model):
    """A composite primary key with a link in it."""

    pk = models.CompositePrimaryKey("hall_id", "number")
    hall = models.ForeignKey(Hall, on_delete=models.CASCADE)
    number = models.IntegerField()
    name = models.CharField(max_length=50)


class Ticket(models.Model):
    """Links to a composite primary key, column by column."""

    hall = models.ForeignKey(Hall, on_delete=models.CASCADE)
    seat_number = models.IntegerField()
    seat = models.ForeignObject(
        Seat,
        on_delete=models.DO_NOTHING,
        from_fields=("hall", "seat_number"),
        to_fields=("hall", "number"),
        related_name="tickets",
    )
    text = models.CharField(max_length=50)


class Slot(models.Model):
    """A composite primary key of plain values, with an ordinary link beside it."""

    pk = models.CompositePrimaryKey("day", "hour")
    day = models.DateField()
    hour = models.IntegerField()
    hall = models.ForeignKey(Hall, on_delete=models.CASCADE)
    name = models.CharField(max_length=50)


class Poem(models.Model):
    """Has verses in an order."""

    name = models.CharField(max_length=50)


class Verse(models.Model):
    """Its place among the verses is a column that Django adds and fills in."""

    poem = models.ForeignKey(Poem, on_delete=models.CASCADE)
    text = models.CharField(max_length=50)

    class Meta:
        order_with_respect_to = "poem"
