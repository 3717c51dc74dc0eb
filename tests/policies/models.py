from __future__ import annotations

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models

from gestore_sync.natural import NaturalKeyModel, NaturalManager
from tests.policies import docks as docks


class Brand(models.Model):
    """Found by a name that the database does not keep unique."""

    name = models.CharField(max_length=50)
    motto = models.CharField(max_length=50, default="")

    objects = NaturalManager("name")

    def natural_key(self) -> tuple[str]:
        """Return what names the brand on every database."""
        return (self.name,)


class Colour(models.Model):
    """Found by a name that several rows may have."""

    name = models.CharField(max_length=50)
    shade = models.CharField(max_length=50, default="")

    objects = NaturalManager("name", allow_many=True)

    def natural_key(self) -> tuple[str]:
        """Return what names the colour on every database."""
        return (self.name,)


class Riddle(models.Model):
    """Its natural key cannot be told."""

    name = models.CharField(max_length=50)

    objects = NaturalManager("name")

    def natural_key(self) -> tuple[str]:
        """Raise AttributeError, as code that does not fit its model does."""
        return (self.nickname,)  # type: ignore[attr-defined]


class Worker(models.Model):
    """Found by either of two unique columns."""

    email = models.CharField(max_length=50, unique=True)
    badge = models.IntegerField(unique=True)
    name = models.CharField(max_length=50, default="")


class Depot(models.Model):
    """The usual root: it has no key but its number."""

    name = models.CharField(max_length=50)
    city = models.CharField(max_length=50, default="")
    riddle = models.ForeignKey(Riddle, on_delete=models.PROTECT, null=True)
    boss = models.ForeignKey(Worker, on_delete=models.SET_NULL, null=True, related_name="led")
    workers = models.ManyToManyField(Worker, through="Shift")
    colours = models.ManyToManyField(Colour)
    lenders = models.ManyToManyField(Worker, through="Lending", related_name="lent_to")


class Remark(models.Model):
    """A remark about anything."""

    content_type = models.ForeignKey(ContentType, on_delete=models.CASCADE)
    object_id = models.PositiveBigIntegerField()
    subject = GenericForeignKey()
    text = models.CharField(max_length=50)


class Parcel(models.Model):
    """Belongs to a depot, and has no key of its own."""

    depot = models.ForeignKey(Depot, on_delete=models.CASCADE)
    number = models.CharField(max_length=50)
    text = models.CharField(max_length=50, default="")
    weight = models.IntegerField(default=0)
    brand = models.ForeignKey(Brand, on_delete=models.PROTECT, null=True)
    colour = models.ForeignKey(Colour, on_delete=models.PROTECT, null=True)
    remarks = GenericRelation(Remark)


class Scan(models.Model):
    """Belongs to a parcel."""

    parcel = models.ForeignKey(Parcel, on_delete=models.CASCADE)
    text = models.CharField(max_length=50, default="")


class Claim(models.Model):
    """Survives the parcels that it mentions."""

    parcel = models.ForeignKey(Parcel, on_delete=models.SET_NULL, null=True)
    default = models.ForeignKey(Parcel, on_delete=models.SET_DEFAULT, null=True, default=None, related_name="+")
    value = models.ForeignKey(Parcel, on_delete=models.SET(None), null=True, related_name="+")
    text = models.CharField(max_length=50, default="")


class Trace(models.Model):
    """Stays with a parcel for which nothing is done when it is deleted."""

    parcel = models.ForeignKey(Parcel, on_delete=models.DO_NOTHING)
    text = models.CharField(max_length=50, default="")


class Article(NaturalKeyModel):
    """Belongs to a depot, in which its code names it."""

    _natural_key = ("depot", "code")

    depot = models.ForeignKey(Depot, on_delete=models.CASCADE)
    code = models.CharField(max_length=50)
    title = models.CharField(max_length=50, default="")
    stock = models.IntegerField(default=0)


class Shift(models.Model):
    """A many-to-many table with a column of its own."""

    depot = models.ForeignKey(Depot, on_delete=models.CASCADE)
    worker = models.ForeignKey(Worker, on_delete=models.CASCADE)
    hours = models.IntegerField()


class ShiftReport(models.Model):
    """Belongs to a row of a many-to-many table."""

    shift = models.ForeignKey(Shift, on_delete=models.CASCADE)
    text = models.CharField(max_length=50, default="")


class Lending(models.Model):
    """A many-to-many table whose rows survive the member, and need no owner."""

    depot = models.ForeignKey(Depot, on_delete=models.CASCADE, null=True)
    worker = models.ForeignKey(Worker, on_delete=models.SET_NULL, null=True)


class Vehicle(models.Model):
    """The parent of a child that belongs to a depot."""

    name = models.CharField(max_length=50)


class Truck(Vehicle):
    """Belongs to a depot; its first half is a row of the parent's table."""

    depot = models.ForeignKey(Depot, on_delete=models.CASCADE)
    load = models.IntegerField(default=0)


class Trip(models.Model):
    """Belongs to the parent."""

    vehicle = models.ForeignKey(Vehicle, on_delete=models.CASCADE)
    text = models.CharField(max_length=50, default="")


class Area(models.Model):
    """A tree in a depot."""

    depot = models.ForeignKey(Depot, on_delete=models.CASCADE)
    parent = models.ForeignKey("self", on_delete=models.CASCADE, null=True)
    name = models.CharField(max_length=50)


class Ticket(models.Model):
    """Its number is counted out by each site for itself, and does not travel."""

    SYNCHRO_SKIP = ("number",)

    depot = models.ForeignKey(Depot, on_delete=models.CASCADE)
    number = models.IntegerField(unique=True, null=True)
    text = models.CharField(max_length=50, default="")


def get_lost_parcel() -> Parcel:
    """What Django's documentation shows for SET(): a function that may write, in whatever database is the default."""
    return Parcel.objects.get_or_create(number="lost", depot=Depot.objects.get_or_create(name="lost")[0])[0]


class Complaint(models.Model):
    """Outlives its parcel, by a function."""

    parcel = models.ForeignKey(Parcel, on_delete=models.SET(get_lost_parcel))
    text = models.CharField(max_length=50, default="")


class Van(Vehicle):
    """A vehicle that is found by a unique field of its own."""

    plate = models.CharField(max_length=50, unique=True)
    depot = models.ForeignKey(Depot, on_delete=models.CASCADE)


class Seal(models.Model):
    """Its primary key is a link to a unique field."""

    worker = models.OneToOneField(Worker, models.CASCADE, to_field="badge", primary_key=True)
    text = models.CharField(max_length=50, default="")


class SealMark(models.Model):
    """Points at what has a link for its key."""

    seal = models.ForeignKey(Seal, on_delete=models.CASCADE)
    text = models.CharField(max_length=50, default="")
