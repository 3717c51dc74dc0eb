"""Columns of every kind."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.contrib.sites.models import Site
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import F
from django.db.models.functions import Now

from tests.kinds.models.links import Tag


class Box(models.Model):
    """Holds rows with values."""

    name = models.CharField(max_length=50)


class Values(models.Model):
    """One optional column of each kind."""

    box = models.ForeignKey(Box, on_delete=models.CASCADE)
    mark = models.CharField(max_length=50)
    boolean = models.BooleanField(null=True)
    small = models.SmallIntegerField(null=True)
    integer = models.IntegerField(null=True)
    big = models.BigIntegerField(null=True)
    decimal = models.DecimalField(max_digits=30, decimal_places=10, null=True)
    real = models.FloatField(null=True)
    char = models.CharField(max_length=200, null=True)
    text = models.TextField(null=True)
    slug = models.SlugField(null=True)
    url = models.URLField(null=True)
    email = models.EmailField(null=True)
    date = models.DateField(null=True)
    time = models.TimeField(null=True)
    moment = models.DateTimeField(null=True)
    duration = models.DurationField(null=True)
    binary = models.BinaryField(null=True)
    uuid = models.UUIDField(null=True)
    json = models.JSONField(null=True)
    address = models.GenericIPAddressField(null=True)
    file = models.FileField(upload_to="values/%Y", null=True, max_length=200)
    path = models.FilePathField(null=True)


class Picture(models.Model):
    """An image whose measures are columns."""

    box = models.ForeignKey(Box, on_delete=models.CASCADE)
    image = models.ImageField(upload_to="pictures", width_field="width", height_field="height")
    width = models.IntegerField(null=True)
    height = models.IntegerField(null=True)


@dataclass(frozen=True)
class Colour:
    """A Python value that a column holds as a text."""

    red: int
    green: int
    blue: int


class ColourField(models.Field):
    """A column whose Python value is a Colour."""

    def db_type(self, connection: Any) -> str:
        """Return the column's type."""
        return "varchar(6)"

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> Colour | None:
        """Return the colour that the text means."""
        if value is None:
            return None
        return Colour(*bytes.fromhex(value))

    def get_prep_value(self, value: Colour | None) -> str | None:
        """Return the text; anything but a colour is a TypeError."""
        if value is None:
            return None
        if not isinstance(value, Colour):
            raise TypeError(f"Not a colour: {value!r}")
        return bytes((value.red, value.green, value.blue)).hex()


class Painted(models.Model):
    """Columns of a field class that the application wrote."""

    box = models.ForeignKey(Box, on_delete=models.CASCADE)
    colour = ColourField()
    shade = ColourField(null=True)


class MoneyDecoder(json.JSONDecoder):
    """Reads {"money": "1.50"} as a Decimal."""

    def __init__(self, **options: Any) -> None:
        super().__init__(object_hook=self.hook, **options)

    @staticmethod
    def hook(value: dict[str, Any]) -> Any:
        """Return a Decimal for an amount, and the value itself for anything else."""
        return Decimal(value["money"]) if set(value) == {"money"} else value


class MoneyEncoder(DjangoJSONEncoder):
    """Writes a Decimal as {"money": "1.50"}."""

    def default(self, value: Any) -> Any:
        """Return what JSON can hold."""
        return {"money": str(value)} if isinstance(value, Decimal) else super().default(value)


class Decoded(models.Model):
    """JSON with an encoder and a decoder."""

    box = models.ForeignKey(Box, on_delete=models.CASCADE)
    json = models.JSONField(encoder=MoneyEncoder, decoder=MoneyDecoder)


class Rect(models.Model):
    """A column that the database computes."""

    box = models.ForeignKey(Box, on_delete=models.CASCADE)
    width = models.IntegerField()
    height = models.IntegerField()
    area = models.GeneratedField(
        expression=F("width") * F("height"), output_field=models.IntegerField(), db_persist=True
    )


class Defaulted(models.Model):
    """Columns with a default in the database."""

    box = models.ForeignKey(Box, on_delete=models.CASCADE)
    level = models.IntegerField(db_default=7)
    since = models.DateTimeField(db_default=Now())


class Stamped(models.Model):
    """Columns that saving stamps."""

    box = models.ForeignKey(Box, on_delete=models.CASCADE)
    text = models.CharField(max_length=50)
    created = models.DateTimeField(auto_now_add=True)
    changed = models.DateTimeField(auto_now=True)
    day = models.DateField(auto_now=True)


class Quoted(models.Model):
    """Names of table and columns that need quotes."""

    order = models.ForeignKey(Box, on_delete=models.CASCADE, db_column="group")
    select = models.CharField(max_length=50, db_column="camelCase Name")
    user = models.IntegerField(null=True, unique=True, db_column="it's")

    class Meta:
        db_table = "kinds Quoted-Rows"


class Loud(models.Model):
    """Saving changes its text."""

    box = models.ForeignKey(Box, on_delete=models.CASCADE)
    text = models.CharField(max_length=50)

    def save(self, *args: Any, **options: Any) -> None:
        """Save with the text in capitals."""
        self.text = self.text.upper()
        super().save(*args, **options)


def new_token() -> str:
    """Return a token that no other row has."""
    return f"fresh-{uuid.uuid4()}"


class Device(models.Model):
    """Columns that do not travel."""

    SYNCHRO_SKIP = ("battery", "token", "favourite", "tags")

    box = models.ForeignKey(Box, on_delete=models.CASCADE, null=True)
    serial = models.CharField(max_length=50, unique=True)
    name = models.CharField(max_length=50)
    battery = models.IntegerField(default=100)
    token = models.CharField(max_length=50, default=new_token)
    favourite = models.ForeignKey(Tag, on_delete=models.SET_NULL, null=True)
    tags = models.ManyToManyField(Tag, related_name="+")


class Banner(models.Model):
    """Links to a site."""

    box = models.ForeignKey(Box, on_delete=models.CASCADE)
    site = models.ForeignKey(Site, on_delete=models.CASCADE)
    text = models.CharField(max_length=50)


class Rule(models.Model):
    """An ordinary link to a content type."""

    box = models.ForeignKey(Box, on_delete=models.CASCADE)
    content_type = models.ForeignKey(ContentType, on_delete=models.CASCADE, related_name="+")
    text = models.CharField(max_length=50)
