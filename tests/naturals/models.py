"""Models with natural keys: ours, and hand-written ones of every form."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models

from gestore_sync.natural import NaturalKeyModel, NaturalManager


class Organization(NaturalKeyModel):
    slug = models.CharField(max_length=50)
    name = models.CharField(max_length=50, default="")

    _natural_key = ("slug",)


class Tag(models.Model):
    name = models.CharField(max_length=50)

    objects = NaturalManager("name")

    def natural_key(self) -> tuple[str]:
        return (self.name,)


class CourseManager(models.Manager):
    def active(self) -> models.QuerySet:
        return self.filter(open=True)


class Course(NaturalKeyModel):
    organization = models.ForeignKey(Organization, models.CASCADE, null=True, related_name="courses")
    code = models.CharField(max_length=50)
    open = models.BooleanField(default=True)
    tags = models.ManyToManyField(Tag, related_name="courses")
    notes = GenericRelation("naturals.Note")

    _natural_key = ("organization", "code")
    objects = CourseManager()


class OnlineCourse(Course):
    url = models.CharField(max_length=100, default="")


class OpenCourse(Course):
    class Meta:
        proxy = True


class Lesson(NaturalKeyModel):
    """Its key holds a key that holds a key."""

    course = models.ForeignKey(Course, models.CASCADE, related_name="lessons")
    number = models.IntegerField()
    previous = models.ForeignKey("self", models.SET_NULL, null=True)

    _natural_key = ("course", "number")


class Badge(NaturalKeyModel):
    """Its key leads through links, one of them to a model that has no natural key."""

    lesson = models.ForeignKey(Lesson, models.CASCADE)
    room = models.ForeignKey("naturals.Room", models.CASCADE, null=True)
    level = models.IntegerField()

    _natural_key = ("lesson__course__code", "room__number", "level")


class Room(models.Model):
    number = models.IntegerField()


class Booking(NaturalKeyModel):
    """Its key holds a link to a model that has no natural key."""

    room = models.ForeignKey(Room, models.CASCADE)
    day = models.DateField()

    _natural_key = ("room", "day")


class Country(models.Model):
    code = models.CharField(max_length=2, unique=True)


class City(NaturalKeyModel):
    country = models.ForeignKey(Country, models.CASCADE, to_field="code")
    name = models.CharField(max_length=50)

    _natural_key = ("country", "name")


class Person(NaturalKeyModel):
    first_name = models.CharField(max_length=50)
    last_name = models.CharField(max_length=50)
    age = models.IntegerField(default=0)

    _natural_key = ("first_name", "last_name")
    _natural_manager_kwargs = {"allow_many": True}

    class Meta:
        ordering = ["-age"]


class Note(NaturalKeyModel):
    content_type = models.ForeignKey(ContentType, models.CASCADE, related_name="+")
    object_id = models.IntegerField()
    content_object = GenericForeignKey()
    text = models.CharField(max_length=50)

    _natural_key = ("content_type", "object_id", "text")


class Node(NaturalKeyModel):
    name = models.CharField(max_length=50)
    parent = models.ForeignKey("self", models.CASCADE, null=True)

    _natural_key = ("name", "parent")


class Branch(NaturalKeyModel):
    """Its key leads through a link to its own model."""

    name = models.CharField(max_length=50)
    parent = models.ForeignKey("self", models.CASCADE, null=True)

    _natural_key = ("name", "parent__name")


class CourseByNumber(Course):
    """Its key holds what a link stores, not the key of the linked object."""

    _natural_key = ("organization_id", "code")

    class Meta:
        proxy = True


class Coded(NaturalKeyModel):
    code = models.CharField(max_length=50)
    number = models.IntegerField(default=0)

    _natural_key = ("code",)

    class Meta:
        abstract = True


class Sheet(Coded):
    pass


class NumberedSheet(Sheet):
    """A child with another key than its parent."""

    _natural_key = ("code", "number")


class Labelled(Coded):
    """An abstract model between the model and NaturalKeyModel, with a key and a manager of its own."""

    label = models.CharField(max_length=50, default="")

    _natural_key = ("code", "label")
    objects = CourseManager()

    class Meta:
        abstract = True


class Box(Labelled):
    open = models.BooleanField(default=True)


class PublishedManager(models.Manager):
    def get_queryset(self) -> models.QuerySet:
        return super().get_queryset().filter(published=True)


class SoftDeleted(models.Model):
    """A mixin that brings ``objects`` and knows nothing of natural keys."""

    published = models.BooleanField(default=True)
    objects = PublishedManager()

    class Meta:
        abstract = True


class Article(SoftDeleted, Coded):
    pass


class Page(Coded):
    """Its default manager is another one than ``objects``."""

    published = models.BooleanField(default=True)

    visible = PublishedManager()
    objects = CourseManager()


class Poster(Coded):
    """Its default manager is another one than ``objects``, which comes later."""

    objects = CourseManager()
    visible = models.Manager()


class Twofold(Coded):
    """Its default manager finds it by another field than those of its key."""

    by_number = NaturalManager("number")
    objects = models.Manager()


class PageWithout(Coded):
    """It has managers, but no ``objects``."""

    published = models.BooleanField(default=True)

    visible = PublishedManager()


class MigratedManager(models.Manager):
    use_in_migrations = True


class MigratedNaturalManager(NaturalManager, MigratedManager):
    fields = ("code",)


class Migrated(Coded):
    objects = MigratedManager()
    found = MigratedNaturalManager()
    many = NaturalManager("number", "code", allow_many=True, manager=MigratedManager)


class LimitManager(models.Manager):
    def __init__(self, limit: int = 3) -> None:
        super().__init__()
        self.limit = limit


class Limited(Coded):
    objects = LimitManager(7)


class SheetQuerySet(models.QuerySet):
    def numbered(self, number: int) -> SheetQuerySet:
        return self.filter(number=number)


class Listed(Coded):
    objects = SheetQuerySet.as_manager()


class Described(NaturalKeyModel):
    """Its own ``natural_key()`` builds on the one that it inherits."""

    code = models.CharField(max_length=50)

    _natural_key = ("code",)

    def natural_key(self) -> tuple[Any, ...]:
        return tuple(part.upper() for part in super().natural_key())


class Reading(NaturalKeyModel):
    text = models.TextField()
    count = models.BigIntegerField()
    moment = models.DateTimeField()
    day = models.DateField(null=True)
    amount = models.DecimalField(max_digits=12, decimal_places=3)
    uuid = models.UUIDField()
    flag = models.BooleanField()

    _natural_key = ("text", "count", "moment", "day", "amount", "uuid", "flag")


# Hand-written keys. All but a few are proxies of one model, so that only its methods differ.


class Thing(models.Model):
    code = models.CharField(max_length=50)
    day = models.DateField()
    nickname = models.CharField(max_length=50, null=True)
    organization = models.ForeignKey(Organization, models.CASCADE)
    owner = models.ForeignKey(Organization, models.CASCADE, null=True, related_name="owned")
    course = models.ForeignKey(Course, models.CASCADE)
    country = models.ForeignKey(Country, models.CASCADE, to_field="code")


class PlainManager(models.Manager):
    def get_by_natural_key(self, code: Any, day: Any) -> Any:
        return self.get(code=code, day=day)


class Plain(Thing):
    objects = PlainManager()

    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        return (self.code, self.day)


class PlainAsList(Plain):
    class Meta:
        proxy = True

    def natural_key(self) -> Any:
        return [self.code, self.day]


class ThingChild(Thing):
    """A multi-table child with the methods of a parent's key."""

    extra = models.IntegerField(default=0)

    objects = PlainManager()

    def natural_key(self) -> tuple[Any, ...]:
        return (self.code, self.thing_ptr.day)


class ExactManager(models.Manager):
    def get_by_natural_key(self, *key: Any) -> Any:
        names = ["code__exact", "organization_id"]
        return self.get(**dict(zip(names, key, strict=True)))


class Exact(Thing):
    objects = ExactManager()

    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        return (self.code, self.organization.pk)


class ThroughManager(models.Manager):
    def get_by_natural_key(self, slug: Any, code: Any) -> Any:
        return self.get(code=code, organization__slug=slug)


class Through(Thing):
    objects = ThroughManager()

    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        return (*self.organization.natural_key(), self.code)


class PartOfLinkManager(models.Manager):
    def get_by_natural_key(self, course_code: Any, code: Any) -> Any:
        return self.get(code=code, course__code=course_code)


class PartOfLink(Thing):
    objects = PartOfLinkManager()

    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        return (self.course.code, self.code)


class DeepManager(models.Manager):
    def get_by_natural_key(self, slug: Any, course_code: Any, code: Any) -> Any:
        return self.get(code=code, course__code=course_code, course__organization__slug=slug)


class Deep(Thing):
    objects = DeepManager()

    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        return (self.course.organization.slug, self.course.code, self.code)


class RelatedManager(models.Manager):
    def get_by_natural_key(self, code: Any, slug: Any) -> Any:
        organization = Organization.objects.db_manager(self.db).get_by_natural_key(slug)
        return self.get(code=code, organization=organization)


class Related(Thing):
    objects = RelatedManager()

    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        return (self.code, *self.organization.natural_key())


class RelatedGetManager(models.Manager):
    def get_by_natural_key(self, code: Any, slug: Any) -> Any:
        return self.get(code=code, organization=Organization.objects.using(self.db).get(slug=slug))


class RelatedGet(Related):
    objects = RelatedGetManager()

    class Meta:
        proxy = True


class NestedManager(models.Manager):
    def get_by_natural_key(self, course_key: Any, code: Any) -> Any:
        courses = Course.objects.db_manager(self.db)
        return self.get(course=courses.get_by_natural_key(*course_key), code=code)


class Nested(Thing):
    objects = NestedManager()

    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        return (self.course.natural_key(), self.code)


class NestedForOurs(Thing):
    """A hand-written ``natural_key()``, nested, for a manager of ours."""

    objects = NaturalManager("course", "code", allow_many=True)

    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        return (self.course.natural_key(), self.code)


class ToField(Thing):
    objects = NaturalManager("country", "code")

    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        return (self.country_id, self.code)


class ToFieldManager(models.Manager):
    def get_by_natural_key(self, country: Any, code: Any) -> Any:
        return self.get(country__code=country, code=code)


class ToFieldThrough(Thing):
    objects = ToFieldManager()

    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        return (self.country.code, self.code)


class ToFieldByPkManager(models.Manager):
    def get_by_natural_key(self, country: Any, code: Any) -> Any:
        return self.get(country__pk=country, code=code)


class ToFieldByPk(Thing):
    objects = ToFieldByPkManager()

    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        return (self.country.pk, self.code)


class OtherOrderForOurs(Thing):
    objects = NaturalManager("day", "code")

    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        return (self.code, self.day)


class HiddenManager(PlainManager):
    def get_queryset(self) -> Any:
        raise RuntimeError("There is no scope.")


class Hidden(Plain):
    """Its manager refuses to work."""

    objects = HiddenManager()

    class Meta:
        proxy = True


class Lowered(Plain):
    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        return (self.code.lower(), self.day)


class Guarded(Plain):
    """It hides that it uses its value."""

    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        code = self.code
        with suppress(Exception):
            code = code.lower()
        return (code, self.day)


class GuardedWholly(Plain):
    """It hides that it uses its value, from everything."""

    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        try:
            str(self.code)
        except BaseException:  # noqa: BLE001
            return (self.code, self.day)
        return ()


class Formatted(Plain):
    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        return (f"{self.code}", self.day)


class Conditional(Plain):
    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        return (self.code or "none", self.day)


class NullConditional(Plain):
    """Its key is another one when a field is null."""

    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        if self.nickname is None:
            return (self.day, self.code)
        return (self.code, self.day)


class NullTolerant(Thing):
    """Its key has a part that is null when a link is null."""

    objects = NaturalManager("owner__slug", "code")

    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        return (self.owner.slug if self.owner is not None else None, self.code)


class NullIntolerant(Thing):
    """Its natural_key() fails when a link is null."""

    objects = NaturalManager("owner__slug", "code")

    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        return (self.owner.slug, self.code)


class WithConstant(Plain):
    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        return ("thing", self.code)


class NotATuple(Plain):
    class Meta:
        proxy = True

    def natural_key(self) -> Any:
        return self.code


class Querying(Plain):
    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        Tag.objects.count()
        return (self.code, self.day)


class GuardedQuerying(Plain):
    """It hides that it asks the database."""

    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        with suppress(BaseException):
            Tag.objects.using("remote").count()
        return (self.code, self.day)


class ReverseQuerying(Plain):
    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        return (self.code, self.thingchild.extra)


class Endless(Plain):
    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        return (self.code, *self.natural_key())


class IexactManager(models.Manager):
    def get_by_natural_key(self, code: Any, day: Any) -> Any:
        return self.get(code__iexact=code, day=day)


class Iexact(Plain):
    objects = IexactManager()

    class Meta:
        proxy = True


class FilterManager(models.Manager):
    def get_by_natural_key(self, code: Any, day: Any) -> Any:
        return self.filter(code=code, day=day).first()


class Filtered(Plain):
    objects = FilterManager()

    class Meta:
        proxy = True


class QuerySetManager(models.Manager):
    def get_by_natural_key(self, code: Any, day: Any) -> Any:
        return self.get_queryset().filter(open=True).get(code=code, day=day)


class FromQuerySet(Plain):
    objects = QuerySetManager()

    class Meta:
        proxy = True


class FallbackManager(models.Manager):
    def get_by_natural_key(self, code: Any, day: Any) -> Any:
        try:
            return self.get(code=code, day=day)
        except self.model.DoesNotExist:
            return self.get(nickname=code, day=day)


class Fallback(Plain):
    objects = FallbackManager()

    class Meta:
        proxy = True


class FirstOfManyManager(models.Manager):
    def get_by_natural_key(self, code: Any, day: Any) -> Any:
        try:
            return self.get(code=code, day=day)
        except self.model.MultipleObjectsReturned:
            return self.filter(code=code).first()


class FirstOfMany(Plain):
    objects = FirstOfManyManager()

    class Meta:
        proxy = True


class OtherErrorManager(models.Manager):
    def get_by_natural_key(self, code: Any, day: Any) -> Any:
        try:
            return self.get(code=code, day=day)
        except self.model.DoesNotExist:
            return None


class NoneWhenMissing(Plain):
    objects = OtherErrorManager()

    class Meta:
        proxy = True


class ConstantManager(models.Manager):
    def get_by_natural_key(self, code: Any, day: Any) -> Any:
        return self.get(code=code, day=day, nickname="x")


class WithConstantLookup(Plain):
    objects = ConstantManager()

    class Meta:
        proxy = True


class ConditionManager(models.Manager):
    def get_by_natural_key(self, code: Any, day: Any) -> Any:
        return self.get(models.Q(nickname="x"), code=code, day=day)


class WithCondition(Plain):
    objects = ConditionManager()

    class Meta:
        proxy = True


class ExtraManager(models.Manager):
    def get_by_natural_key(self, code: Any, day: Any) -> Any:
        return self.get(code=code)


class LessThanTheKey(Plain):
    objects = ExtraManager()

    class Meta:
        proxy = True


class SwappedManager(models.Manager):
    def get_by_natural_key(self, code: Any, day: Any) -> Any:
        return self.get(code=day, day=code)


class Crossed(Plain):
    objects = SwappedManager()

    class Meta:
        proxy = True


class ArityManager(models.Manager):
    def get_by_natural_key(self, code: Any) -> Any:
        return self.get(code=code)


class OtherArity(Plain):
    objects = ArityManager()

    class Meta:
        proxy = True


class OtherModelManager(models.Manager):
    def get_by_natural_key(self, code: Any, day: Any) -> Any:
        return Plain.objects.get(code=code, day=day).organization


class OtherModel(Plain):
    objects = OtherModelManager()

    class Meta:
        proxy = True


class OwnGetManager(PlainManager):
    def get(self, *args: Any, **kwargs: Any) -> Any:
        return super().get(*args, **{f"{name}__iexact": value for name, value in kwargs.items()})


class OwnGet(Plain):
    objects = OwnGetManager()

    class Meta:
        proxy = True


class LaxQuerySet(models.QuerySet):
    def get(self, *args: Any, **kwargs: Any) -> Any:
        return super().get(*args, **{f"{name}__iexact": value for name, value in kwargs.items()})


class OwnQuerySetGet(Plain):
    objects = PlainManager.from_queryset(LaxQuerySet)()

    class Meta:
        proxy = True


class RelatedFallbackManager(models.Manager):
    def get_by_natural_key(self, code: Any, slug: Any) -> Any:
        try:
            organization = Organization.objects.get_by_natural_key(slug)
        except Organization.DoesNotExist:
            organization = None
        return self.get(code=code, organization=organization)


class RelatedFallback(Related):
    objects = RelatedFallbackManager()

    class Meta:
        proxy = True


class SecondFallbackManager(models.Manager):
    def get_by_natural_key(self, code: Any, slug: Any) -> Any:
        organization = Organization.objects.get_by_natural_key(slug)
        try:
            return self.get(code=code, organization=organization)
        except self.model.DoesNotExist:
            return self.get(nickname=code, organization=organization)


class SecondFallback(Related):
    objects = SecondFallbackManager()

    class Meta:
        proxy = True


class ElsewhereManager(models.Manager):
    def get_by_natural_key(self, code: Any) -> Any:
        return Sheet.objects.get(code=code)


class Elsewhere(Thing):
    """Its manager finds objects of another model."""

    objects = ElsewhereManager()

    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        return (self.code,)


class ClimbingManager(models.Manager):
    def get_by_natural_key(self, *names: Any) -> Any:
        return self.get(name=names[0], parent__name=names[1])


class Climbing(Node):
    """Its key is as long as its way to the root."""

    objects = ClimbingManager()

    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        names, node = [self.name], self
        while node.parent is not None:
            node = node.parent
            names.append(node.name)
        return tuple(names)


class RelatedFilterManager(models.Manager):
    def get_by_natural_key(self, code: Any, slug: Any) -> Any:
        return self.get(code=code, organization=Organization.objects.filter(slug=slug).first())


class RelatedFilter(Related):
    objects = RelatedFilterManager()

    class Meta:
        proxy = True


class OnlyKey(Thing):
    """It has natural_key(), but its manager cannot look up."""

    class Meta:
        proxy = True

    def natural_key(self) -> tuple[Any, ...]:
        return (self.code,)


class OnlyLookup(Thing):
    """Its manager can look up, but it has no natural_key()."""

    objects = PlainManager()

    class Meta:
        proxy = True


class Account(AbstractBaseUser):
    email = models.CharField(max_length=100, unique=True)

    USERNAME_FIELD = "email"
    objects = BaseUserManager()


class LaxAccountManager(BaseUserManager):
    def get_by_natural_key(self, username: str | None) -> Any:
        return self.get(**{f"{self.model.USERNAME_FIELD}__iexact": username})


class LaxAccount(Account):
    objects = LaxAccountManager()

    class Meta:
        proxy = True
