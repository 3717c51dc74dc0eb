from __future__ import annotations

import uuid
from typing import Any

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models

from gestore_sync import LoggedManager, LoggedQuerySet, NaturalKeyModel


class Product(models.Model):
    """A plain model: nothing but its primary key tells one row from another."""

    name = models.CharField(max_length=50)
    text = models.CharField(max_length=200, default="")
    price = models.IntegerField(default=0)


class Offer(Product):
    """A proxy."""

    class Meta:
        proxy = True


class Country(NaturalKeyModel):
    """Found by a code that may be of any length."""

    _natural_key = ("code",)

    code = models.TextField()
    name = models.CharField(max_length=50, default="")


class City(NaturalKeyModel):
    """Found by a key with another key in it."""

    _natural_key = ("country", "name")

    country = models.ForeignKey(Country, on_delete=models.CASCADE)
    name = models.CharField(max_length=50)
    motto = models.CharField(max_length=50, default="")


class Ticket(models.Model):
    """Its primary key is a UUID."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    title = models.CharField(max_length=50, default="")


class Page(models.Model):
    """Its primary key is a text of any length."""

    path = models.TextField(primary_key=True)
    title = models.CharField(max_length=50, default="")


class Seat(models.Model):
    """Its primary key has two parts."""

    pk = models.CompositePrimaryKey("row", "number")
    row = models.CharField(max_length=5)
    number = models.IntegerField()
    guest = models.CharField(max_length=50, default="")


class Venue(models.Model):
    """The parent of another table."""

    name = models.CharField(max_length=50)


class Theatre(Venue):
    """A row in two tables."""

    seats = models.IntegerField(default=0)


class Opera(Theatre):
    """A row in three tables."""

    composer = models.CharField(max_length=50, default="")


class Tag(NaturalKeyModel):
    _natural_key = ("name",)

    name = models.CharField(max_length=50)


class Author(NaturalKeyModel):
    _natural_key = ("name",)

    name = models.CharField(max_length=50)


class Agency(models.Model):
    """What only the row of a many-to-many table leads to."""

    name = models.CharField(max_length=50)


class Article(models.Model):
    """Every kind of many-to-many field."""

    title = models.CharField(max_length=50)
    text = models.CharField(max_length=50, default="")
    tags = models.ManyToManyField(Tag, related_name="articles")
    authors = models.ManyToManyField(Author, through="Authorship", related_name="articles")
    see_also = models.ManyToManyField("self", symmetrical=False, related_name="seen_from")
    twins = models.ManyToManyField("self")


class Authorship(models.Model):
    """A many-to-many table with columns of its own."""

    article = models.ForeignKey(Article, on_delete=models.CASCADE)
    author = models.ForeignKey(Author, on_delete=models.CASCADE)
    agency = models.ForeignKey(Agency, on_delete=models.PROTECT, null=True)
    share = models.IntegerField(default=0)


class Shelf(models.Model):
    name = models.CharField(max_length=50)


class Book(models.Model):
    """A part of a shelf."""

    shelf = models.ForeignKey(Shelf, on_delete=models.CASCADE)
    title = models.CharField(max_length=50)
    text = models.CharField(max_length=50, default="")


class Team(models.Model):
    """Half of a cycle of links."""

    name = models.CharField(max_length=50)
    lead = models.ForeignKey("Employee", on_delete=models.SET_NULL, null=True, related_name="led")


class Employee(models.Model):
    """The other half, and a link to the same model."""

    name = models.CharField(max_length=50)
    boss = models.ForeignKey("self", on_delete=models.SET_NULL, null=True)
    team = models.ForeignKey(Team, on_delete=models.SET_NULL, null=True)


class Comment(models.Model):
    """A comment about anything."""

    content_type = models.ForeignKey(ContentType, on_delete=models.CASCADE, related_name="+")
    object_id = models.TextField()
    subject = GenericForeignKey()
    text = models.CharField(max_length=50, default="")


class Account(NaturalKeyModel):
    """Has a field that each site computes for itself."""

    SYNCHRO_SKIP = ("visits",)
    _natural_key = ("name",)

    name = models.CharField(max_length=50)
    cash = models.IntegerField(default=0)
    visits = models.IntegerField(default=5)


class Invoice(NaturalKeyModel):
    """Its number comes from a counter that each site has."""

    _natural_key = ("code",)

    code = models.CharField(max_length=50)
    number = models.IntegerField(unique=True)


class Reading(models.Model):
    """Its manager logs what Django sends no signals for."""

    code = models.CharField(max_length=50, unique=True)
    value = models.IntegerField(default=0)

    objects = LoggedManager()


class SampleQuerySet(LoggedQuerySet):
    """A queryset of the project's own."""

    def double(self) -> int:
        """Change rows in bulk."""
        return self.update(value=models.F("value") * 2)


class Sample(models.Model):
    """Has a manager made of a queryset, and parts."""

    name = models.CharField(max_length=50)
    value = models.IntegerField(default=0)
    parent = models.ForeignKey("self", on_delete=models.CASCADE, null=True, related_name="parts")

    objects = SampleQuerySet.as_manager()


class Stock(models.Model):
    """What handlers of signals change."""

    foo = models.IntegerField(default=1)
    bar = models.IntegerField(default=1)


class Sale(models.Model):
    """What handlers of signals listen to."""

    name = models.CharField(max_length=50)


class Gauge(NaturalKeyModel):
    """Found by a number that need not be finite."""

    _natural_key = ("level",)

    level = models.FloatField()


class Oddity(models.Model):
    """Its natural key is no value that a text could stand for."""

    name = models.CharField(max_length=50)

    def natural_key(self) -> tuple[Any, ...]:
        """Return what JSON does not know."""
        return (object(), {1, 2}, b"\xff")


class Riddle(models.Model):
    """Its natural key cannot be told."""

    name = models.CharField(max_length=50)

    def natural_key(self) -> tuple[Any, ...]:
        """Raise an error, as code that does not fit its model does."""
        raise RuntimeError("nobody knows")


class Booking(models.Model):
    """Hangs on the parent table of a row in several tables."""

    venue = models.ForeignKey(Venue, on_delete=models.CASCADE)
    text = models.CharField(max_length=50, default="")


class CipherManager(models.Manager["Cipher"]):
    """Takes a key apart, which fails for one that no number ends."""

    def get_by_natural_key(self, key: str) -> Cipher:
        """Return the object with this key."""
        code, _, number = key.partition("\0")
        return self.get(code=code, number=str(int(number)))


class Cipher(models.Model):
    """Its natural key has a null character in it, which some databases cannot keep."""

    code = models.CharField(max_length=50)
    number = models.CharField(max_length=50)

    objects = CipherManager()

    def natural_key(self) -> tuple[str]:
        """Return both fields in one text."""
        return (f"{self.code}\0{self.number}",)
