"""Models on which somebody has to decide: secrets, keys that no link shows, links that survive."""

from __future__ import annotations

import uuid

from django.contrib.contenttypes.models import ContentType
from django.db import models


class Label(models.Model):
    """Orders have any number of them."""

    text = models.CharField(max_length=50)


class Customer(models.Model):
    """Has secrets, and fields that only tell of them."""

    name = models.CharField(max_length=50)
    password = models.CharField(max_length=50)
    api_key = models.CharField(max_length=50)
    backupCode = models.CharField(max_length=50)
    has_token = models.BooleanField(default=False)
    password_changed_at = models.DateTimeField(null=True)
    spinning = models.IntegerField(default=0)


class Order(models.Model):
    """Points to others, by links and otherwise."""

    SYNCHRO_SKIP = ("session_id",)

    customer = models.ForeignKey(Customer, on_delete=models.CASCADE)
    seller = models.ForeignKey(Customer, on_delete=models.SET_NULL, null=True, related_name="sold")
    labels = models.ManyToManyField(Label)
    shop_id = models.IntegerField(default=0)
    session_id = models.IntegerField(default=0)
    customer_uuid = models.UUIDField(default=uuid.uuid4)
    external_id = models.CharField(max_length=50)
    valid_id = models.BooleanField(default=True)


class Line(models.Model):
    """Belongs to an order."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE)


class Event(models.Model):
    """Happened to anything, and has no generic key that says so."""

    target_content_type = models.ForeignKey(ContentType, on_delete=models.CASCADE)
    target_object_id = models.PositiveIntegerField()
