"""Trees of every kind that the shipped adapters know."""

from __future__ import annotations

import uuid

from django.db import models
from mptt.models import MPTTModel, TreeForeignKey
from treebeard.al_tree import AL_Node
from treebeard.mp_tree import MP_Node
from treebeard.ns_tree import NS_Node


class Named(models.Model):
    code = models.CharField(max_length=40, unique=True)
    name = models.CharField(max_length=40, default="")

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.code


# Materialized paths


class PathNode(Named, MP_Node):
    pass


class PathSorted(Named, MP_Node):
    node_order_by = ["name", "code"]


class PathShort(Named, MP_Node):
    """At most nine children, and five generations."""

    steplen = 1
    alphabet = "0123456789"
    path = models.CharField(max_length=5, unique=True)


class PathDeep(Named, MP_Node):
    steplen = 1
    path = models.CharField(max_length=6000, unique=True)


class PathUUID(Named, MP_Node):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    steplen = 2
    alphabet = "0123456789abcdef"


class Page(Named, MP_Node):
    pass


class Article(Page):
    body = models.TextField(default="")


class Review(Article):
    stars = models.IntegerField(default=0)


class Remark(models.Model):
    """Hangs on a node, and so belongs to it."""

    page = models.ForeignKey(Page, models.CASCADE, related_name="remarks")
    text = models.CharField(max_length=40)


# Nested sets


class SetNode(Named, NS_Node):
    pass


class SetSorted(Named, NS_Node):
    node_order_by = ["name", "code"]


# Adjacency lists


class ListNode(Named, AL_Node):
    parent = models.ForeignKey("self", models.CASCADE, null=True, db_index=True, related_name="children_set")
    sib_order = models.PositiveIntegerField()


class ListSorted(Named, AL_Node):
    parent = models.ForeignKey("self", models.CASCADE, null=True, db_index=True, related_name="children_set")
    node_order_by = ["name", "code"]


# django-mptt


class Genre(Named, MPTTModel):
    parent = TreeForeignKey("self", models.CASCADE, null=True, blank=True, related_name="children")


class GenreSorted(Named, MPTTModel):
    parent = TreeForeignKey("self", models.CASCADE, null=True, blank=True, related_name="children")

    class MPTTMeta:
        order_insertion_by = ["name", "code"]


class GenreRenamed(Named, MPTTModel):
    """A tree whose attributes have names of their own."""

    above = TreeForeignKey("self", models.CASCADE, null=True, blank=True, related_name="below")

    class MPTTMeta:
        parent_attr = "above"
        left_attr = "begins"
        right_attr = "ends"
        tree_id_attr = "wood"
        level_attr = "depth"


class Place(Named, MPTTModel):
    parent = TreeForeignKey("self", models.CASCADE, null=True, blank=True, related_name="children")


class City(Place):
    mayor = models.CharField(max_length=40, default="")


# A tree of nobody's library


class Folder(models.Model):
    """What the guide's example of an adapter is for."""

    slug = models.SlugField(max_length=40)
    parent = models.ForeignKey("self", models.CASCADE, null=True, related_name="folders")
    full_path = models.CharField(max_length=200, unique=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["parent", "slug"], name="folder_in_parent")]

    def __str__(self) -> str:
        return self.full_path
