"""The learning platform: what belongs to an organization, and what organizations share.

An organization owns its courses with their lessons, enrolments, certificates and comments, its teams, and its
own categories. People with their profiles, tags and the platform's categories are shared by organizations.
"""

from __future__ import annotations

import uuid

from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models

from gestore_sync.natural import NaturalKeyModel, NaturalManager


class Organization(NaturalKeyModel):
    """A school, company or club that teaches: the customer of the platform."""

    _natural_key = ("code",)

    code = models.SlugField(max_length=40, unique=True)
    name = models.CharField(max_length=120)
    timezone = models.CharField(max_length=40, default="UTC")
    logo = models.FileField(upload_to="logos/", blank=True)
    created = models.DateTimeField()

    class Meta:
        ordering = ["code"]

    def __str__(self) -> str:
        return self.name


class Category(NaturalKeyModel):
    """A node of the tree of subjects; without an organization it is the platform's and everybody uses it."""

    _natural_key = ("code",)

    code = models.CharField(max_length=80, unique=True)
    name = models.CharField(max_length=80)
    parent = models.ForeignKey("self", models.CASCADE, null=True, blank=True, related_name="children")
    organization = models.ForeignKey(Organization, models.CASCADE, null=True, blank=True, related_name="categories")

    class Meta:
        ordering = ["code"]
        verbose_name_plural = "categories"

    def __str__(self) -> str:
        return self.name


class Tag(models.Model):
    """A word that courses of all organizations are found by."""

    name = models.CharField(max_length=40, unique=True)

    objects = NaturalManager("name")

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def natural_key(self) -> tuple[str]:
        """Return what names the tag everywhere."""
        return (self.name,)


class Person(NaturalKeyModel):
    """Somebody who learns or teaches, at any number of organizations."""

    _natural_key = ("email",)

    uuid = models.UUIDField(unique=True, default=uuid.uuid4, help_text="subject at the identity provider")
    email = models.EmailField(unique=True)
    first_name = models.CharField(max_length=60)
    last_name = models.CharField(max_length=60)
    home_organization = models.ForeignKey(Organization, models.SET_NULL, null=True, blank=True, related_name="members")
    joined = models.DateTimeField()

    class Meta:
        ordering = ["email"]
        verbose_name_plural = "people"

    def __str__(self) -> str:
        return f"{self.first_name} {self.last_name}"


class Profile(models.Model):
    """What a person tells about herself."""

    person = models.OneToOneField(Person, models.CASCADE, related_name="profile")
    headline = models.CharField(max_length=120, blank=True)
    language = models.CharField(max_length=10, default="en")
    birthday = models.DateField(null=True, blank=True)
    photo = models.FileField(upload_to="photos/", blank=True)
    preferences = models.JSONField(default=dict, blank=True)

    def __str__(self) -> str:
        return f"profile of {self.person}"


class Comment(models.Model):
    """A remark about a course or a lesson."""

    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.PositiveBigIntegerField()
    subject = GenericForeignKey()
    author = models.ForeignKey(Person, models.SET_NULL, null=True, blank=True, related_name="comments")
    text = models.TextField()
    created = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["content_type", "object_id"], name="comment_subject")]

    def __str__(self) -> str:
        return self.text[:60]


class Course(NaturalKeyModel):
    """What an organization teaches."""

    _natural_key = ("organization", "code")

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="courses")
    code = models.CharField(max_length=40)
    title = models.CharField(max_length=160)
    category = models.ForeignKey(Category, models.PROTECT, null=True, blank=True, related_name="courses")
    tags = models.ManyToManyField(Tag, blank=True, related_name="courses")
    prerequisites = models.ManyToManyField("self", symmetrical=False, blank=True, related_name="unlocks")
    featured_lesson = models.ForeignKey("Lesson", models.SET_NULL, null=True, blank=True, related_name="featured_in")
    price = models.DecimalField(max_digits=8, decimal_places=2, default=0)
    published = models.BooleanField(default=False)
    starts = models.DateField(null=True, blank=True)
    updated = models.DateTimeField(auto_now=True)
    comments = GenericRelation(Comment)

    class Meta:
        ordering = ["organization", "code"]
        constraints = [models.UniqueConstraint(fields=["organization", "code"], name="course_code")]

    def __str__(self) -> str:
        return self.title


class Lesson(models.Model):
    """One step of a course."""

    course = models.ForeignKey(Course, models.CASCADE, related_name="lessons")
    position = models.PositiveIntegerField()
    title = models.CharField(max_length=160)
    duration = models.DurationField()
    slides = models.FileField(upload_to="slides/", blank=True)
    settings = models.JSONField(default=dict, blank=True)
    comments = GenericRelation(Comment)

    class Meta:
        ordering = ["course", "position"]
        constraints = [models.UniqueConstraint(fields=["course", "position"], name="lesson_position")]

    def __str__(self) -> str:
        return f"{self.position}. {self.title}"


class Enrolment(models.Model):
    """A person's place in a course."""

    class Role(models.TextChoices):
        """What the person does there."""

        LEARNER = "learner"
        ASSISTANT = "assistant"
        TEACHER = "teacher"

    course = models.ForeignKey(Course, models.CASCADE, related_name="enrolments")
    person = models.ForeignKey(Person, models.CASCADE, related_name="enrolments")
    role = models.CharField(max_length=10, choices=Role)
    progress = models.DecimalField(max_digits=5, decimal_places=2, default=0)
    enrolled_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["course", "person"], name="enrolment_once")]

    def __str__(self) -> str:
        return f"{self.person} in {self.course}"


class Certificate(models.Model):
    """Proof that somebody finished a course."""

    enrolment = models.OneToOneField(Enrolment, models.CASCADE, related_name="certificate")
    serial = models.UUIDField(unique=True, default=uuid.uuid4)
    issued = models.DateField()
    signature = models.BinaryField()

    def __str__(self) -> str:
        return str(self.serial)


class Team(models.Model):
    """A group of people inside an organization."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="teams")
    name = models.CharField(max_length=80)
    members = models.ManyToManyField(Person, through="Membership", related_name="teams")

    class Meta:
        ordering = ["organization", "name"]
        constraints = [models.UniqueConstraint(fields=["organization", "name"], name="team_name")]

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """A person's place in a team; `since` and `function` are required."""

    team = models.ForeignKey(Team, models.CASCADE, related_name="memberships")
    person = models.ForeignKey(Person, models.CASCADE, related_name="memberships")
    function = models.CharField(max_length=40)
    since = models.DateField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["team", "person"], name="membership_once")]

    def __str__(self) -> str:
        return f"{self.person} in {self.team}"


class AuditEntry(models.Model):
    """What the site's staff did; it outlives the organization that it mentions."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    organization = models.ForeignKey(Organization, models.SET_NULL, null=True, blank=True, related_name="audit_entries")
    action = models.CharField(max_length=120)
    at = models.DateTimeField()

    class Meta:
        ordering = ["at"]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return self.action
