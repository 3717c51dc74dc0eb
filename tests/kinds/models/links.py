"""Foreign keys, one-to-one, many-to-many, generic and self links, and cycles of links."""

from __future__ import annotations

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models


class Currency(models.Model):
    """Referred to, and found by its unique code."""

    code = models.CharField(max_length=3, unique=True)
    title = models.CharField(max_length=50, default="")


class Seal(models.Model):
    """The far end of a one-to-one field on the root."""

    title = models.CharField(max_length=50)


class Tag(models.Model):
    """A member of an automatic many-to-many table, found by its unique name."""

    name = models.CharField(max_length=50, unique=True)


class Shop(models.Model):
    """The usual root: it has no key but its number."""

    name = models.CharField(max_length=50)
    currency = models.ForeignKey(Currency, on_delete=models.PROTECT)
    second_currency = models.ForeignKey(Currency, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    seal = models.OneToOneField(Seal, on_delete=models.PROTECT, null=True, blank=True)
    tags = models.ManyToManyField(Tag)
    notes = GenericRelation("Note")
    labels = GenericRelation("Label", content_type_field="kind", object_id_field="key")


class Order(models.Model):
    """Belongs to its shop through a required foreign key."""

    shop = models.ForeignKey(Shop, on_delete=models.CASCADE)
    number = models.CharField(max_length=50)
    currency = models.ForeignKey(Currency, on_delete=models.PROTECT, null=True, blank=True)


class Line(models.Model):
    """Belongs to an order, two links away from the shop."""

    order = models.ForeignKey(Order, on_delete=models.CASCADE)
    text = models.CharField(max_length=50)


class License(models.Model):
    """A required one-to-one extension, seen from the shop as a reverse link."""

    shop = models.OneToOneField(Shop, on_delete=models.CASCADE)
    number = models.CharField(max_length=50)


class Invoice(models.Model):
    """Its shop may not be deleted for it, so it belongs to the shop."""

    shop = models.ForeignKey(Shop, on_delete=models.PROTECT)
    number = models.CharField(max_length=50)


class Secret(models.Model):
    """Belongs to a shop that has no accessor for it."""

    shop = models.ForeignKey(Shop, on_delete=models.CASCADE, related_name="+")
    text = models.CharField(max_length=50)


class Artist(models.Model):
    """The top of a graph with RESTRICT inside."""

    name = models.CharField(max_length=50)


class Album(models.Model):
    """Deleted with its artist."""

    artist = models.ForeignKey(Artist, on_delete=models.CASCADE)
    title = models.CharField(max_length=50)


class Song(models.Model):
    """Restricts its album, and is deleted with its artist."""

    artist = models.ForeignKey(Artist, on_delete=models.CASCADE)
    album = models.ForeignKey(Album, on_delete=models.RESTRICT)
    title = models.CharField(max_length=50)


class Visit(models.Model):
    """Survives its shop: SET_NULL."""

    shop = models.ForeignKey(Shop, on_delete=models.SET_NULL, null=True)
    text = models.CharField(max_length=50)


class Bookmark(models.Model):
    """Survives its shop: SET_DEFAULT."""

    shop = models.ForeignKey(Shop, on_delete=models.SET_DEFAULT, null=True, default=None)
    text = models.CharField(max_length=50)


class Rumour(models.Model):
    """Survives its shop: SET()."""

    shop = models.ForeignKey(Shop, on_delete=models.SET(None), null=True)
    text = models.CharField(max_length=50)


class Rating(models.Model):
    """Survives its shop: DO_NOTHING."""

    shop = models.ForeignKey(Shop, on_delete=models.DO_NOTHING)
    text = models.CharField(max_length=50)


class Clue(models.Model):
    """Links that the database does not enforce."""

    shop = models.ForeignKey(Shop, on_delete=models.CASCADE, db_constraint=False)
    seal = models.ForeignKey(Seal, on_delete=models.DO_NOTHING, null=True, db_constraint=False)
    text = models.CharField(max_length=50)


class Person(models.Model):
    """Many-to-many links to its own model: symmetrical, one way, and with an explicit table."""

    name = models.CharField(max_length=50)
    friends = models.ManyToManyField("self")
    follows = models.ManyToManyField("self", symmetrical=False, related_name="followers")
    mentors = models.ManyToManyField(
        "self",
        symmetrical=False,
        through="Mentoring",
        through_fields=("pupil", "mentor"),
        related_name="pupils",
    )


class Mentoring(models.Model):
    """An explicit table between two people, with a third link to a person."""

    pupil = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="+")
    mentor = models.ForeignKey(Person, on_delete=models.CASCADE, related_name="+")
    witness = models.ForeignKey(Person, on_delete=models.SET_NULL, null=True, related_name="+")
    since = models.DateField()
    text = models.CharField(max_length=50, default="")


class Club(models.Model):
    """Has members through an explicit table."""

    name = models.CharField(max_length=50)
    members = models.ManyToManyField(Person, through="Membership")


class Membership(models.Model):
    """An explicit many-to-many table whose own columns are required."""

    club = models.ForeignKey(Club, on_delete=models.CASCADE)
    person = models.ForeignKey(Person, on_delete=models.CASCADE)
    role = models.CharField(max_length=50)
    joined = models.DateField()


class Note(models.Model):
    """A generic foreign key with a number."""

    content_type = models.ForeignKey(ContentType, on_delete=models.CASCADE, null=True)
    object_id = models.PositiveBigIntegerField(null=True)
    subject = GenericForeignKey()
    text = models.CharField(max_length=50)


class Label(models.Model):
    """A generic foreign key with a text, whose columns have other names."""

    kind = models.ForeignKey(ContentType, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=200)
    subject = GenericForeignKey("kind", "key")
    text = models.CharField(max_length=50)


class Sticker(models.Model):
    """A generic foreign key that keeps proxies apart from their concrete models."""

    content_type = models.ForeignKey(ContentType, on_delete=models.CASCADE, related_name="+")
    object_id = models.PositiveBigIntegerField()
    subject = GenericForeignKey(for_concrete_model=False)
    text = models.CharField(max_length=50)


class Node(models.Model):
    """A tree by links to the parent."""

    name = models.CharField(max_length=50)
    parent = models.ForeignKey("self", on_delete=models.CASCADE, null=True, related_name="children")


class Mirror(models.Model):
    """A required link to its own model."""

    name = models.CharField(max_length=50)
    image = models.ForeignKey("self", on_delete=models.CASCADE)


class Team(models.Model):
    """One half of a cycle over two models; its link is optional."""

    name = models.CharField(max_length=50)
    captain = models.ForeignKey("Player", on_delete=models.SET_NULL, null=True, related_name="+")


class Player(models.Model):
    """The other half: its link is required."""

    name = models.CharField(max_length=50)
    team = models.ForeignKey(Team, on_delete=models.CASCADE)


class Alpha(models.Model):
    """Alpha ⇢ Beta → Gamma → Alpha and Alpha ⇢ Beta → Delta → Alpha: two cycles that share a link."""

    name = models.CharField(max_length=50)
    beta = models.ForeignKey("Beta", on_delete=models.SET_NULL, null=True, related_name="+")


class Beta(models.Model):
    """See Alpha."""

    name = models.CharField(max_length=50)
    gamma = models.ForeignKey("Gamma", on_delete=models.CASCADE)
    delta = models.ForeignKey("Delta", on_delete=models.CASCADE, null=True)


class Gamma(models.Model):
    """See Alpha."""

    name = models.CharField(max_length=50)
    alpha = models.ForeignKey(Alpha, on_delete=models.CASCADE)


class Delta(models.Model):
    """See Alpha."""

    name = models.CharField(max_length=50)
    alpha = models.ForeignKey(Alpha, on_delete=models.CASCADE)


class Chicken(models.Model):
    """One half of a cycle of required links."""

    name = models.CharField(max_length=50)
    egg = models.ForeignKey("Egg", on_delete=models.CASCADE, related_name="hatched")


class Egg(models.Model):
    """The other half."""

    name = models.CharField(max_length=50)
    chicken = models.ForeignKey(Chicken, on_delete=models.CASCADE, related_name="laid")


class CountryManager(models.Manager):
    """Finds countries by their names."""

    def get_by_natural_key(self, name: str) -> Country:
        """Return the country with this name, or raise Country.DoesNotExist."""
        return self.get(name=name)


class Country(models.Model):
    """Linked to by a column that is neither its primary key nor its natural key."""

    name = models.CharField(max_length=50)
    iso = models.CharField(max_length=10, unique=True)

    objects = CountryManager()

    def natural_key(self) -> tuple[str]:
        """Return what names the country on every database."""
        return (self.name,)


class City(models.Model):
    """Links to a country by its code."""

    name = models.CharField(max_length=50)
    country = models.ForeignKey(Country, on_delete=models.CASCADE, to_field="iso")
    twin = models.ForeignKey(Country, on_delete=models.SET_NULL, to_field="iso", null=True, related_name="+")
