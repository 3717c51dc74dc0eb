"""Multi-table inheritance and proxies."""

from __future__ import annotations

import uuid

from django.contrib.contenttypes.fields import GenericRelation
from django.db import models

from tests.kinds.models.links import Currency, Note, Person


class Place(models.Model):
    """The top of three levels, with a link to what hangs on the middle, and a generic relation."""

    name = models.CharField(max_length=50)
    speciality = models.ForeignKey("Dish", on_delete=models.SET_NULL, null=True, related_name="+")
    notes = GenericRelation(Note)


class Restaurant(Place):
    """The middle, with links of its own."""

    stars = models.IntegerField(default=0)
    currency = models.ForeignKey(Currency, on_delete=models.PROTECT, null=True)
    cooks = models.ManyToManyField(Person)


class Pizzeria(Restaurant):
    """The bottom."""

    oven = models.CharField(max_length=50)


class Bar(Place):
    """A second child of the same parent; a place can be both."""

    drinks = models.IntegerField(default=0)


class Kiosk(Place):
    """A child without a column of its own."""


class Hotel(Place):
    """A child that names its link to the parent."""

    base = models.OneToOneField(Place, on_delete=models.CASCADE, parent_link=True, related_name="inn")
    rooms = models.IntegerField(default=0)


class Review(models.Model):
    """Belongs to the parent."""

    place = models.ForeignKey(Place, on_delete=models.CASCADE)
    text = models.CharField(max_length=50)


class Dish(models.Model):
    """Belongs to the middle."""

    restaurant = models.ForeignKey(Restaurant, on_delete=models.CASCADE)
    name = models.CharField(max_length=50)


class Car(models.Model):
    """One of two parents."""

    car_number = models.AutoField(primary_key=True)
    wheels = models.IntegerField()


class Boat(models.Model):
    """The other one."""

    boat_number = models.AutoField(primary_key=True)
    sails = models.IntegerField()


class Amphibian(Car, Boat):
    """A child of two parents whose numbers differ."""

    name = models.CharField(max_length=50)


class Vehicle(models.Model):
    """A parent with a unique column."""

    plate = models.CharField(max_length=50, unique=True)
    colour = models.CharField(max_length=50, default="")


class Truck(Vehicle):
    """Its child."""

    load = models.IntegerField(default=0)


class Trip(models.Model):
    """Refers to the child."""

    truck = models.ForeignKey(Truck, on_delete=models.CASCADE)
    text = models.CharField(max_length=50)


class Machine(models.Model):
    """The concrete model of a proxy."""

    name = models.CharField(max_length=50)


class Robot(Machine):
    """A proxy."""

    class Meta:
        proxy = True


class Battery(models.Model):
    """Links to a proxy."""

    robot = models.ForeignKey(Robot, on_delete=models.CASCADE)
    text = models.CharField(max_length=50)


class Trattoria(Restaurant):
    """A proxy of a child."""

    class Meta:
        proxy = True


class Shipment(models.Model):
    """A parent whose primary key has a default."""

    number = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=50)


class Letterpost(Shipment):
    """Its child."""

    stamps = models.IntegerField(default=0)
