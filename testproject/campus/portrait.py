"""What an organization has, told without primary keys, so that two databases can be compared."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.db import models

from testproject.campus.models import Category, Comment, Course, Lesson, Person, Tag

Rows = Counter[tuple[Any, ...]]

# label: the way to the organization's code, and the columns
OWNED: dict[str, tuple[str, list[str]]] = {
    "campus.Organization": ("code", ["code", "name", "timezone", "logo", "created"]),
    "campus.Category": ("organization__code", ["code", "name", "parent__code"]),
    "campus.Course": (
        "organization__code",
        [
            *("code", "title", "category__code", "price", "published", "starts", "updated"),
            *("featured_lesson__course__organization__code", "featured_lesson__course__code"),
            "featured_lesson__position",
        ],
    ),
    "campus.Course_tags": ("course__organization__code", ["course__code", "tag__name"]),
    "campus.Course_prerequisites": (
        "from_course__organization__code",
        ["from_course__code", "to_course__organization__code", "to_course__code"],
    ),
    "campus.Lesson": (
        "course__organization__code",
        ["course__code", "position", "title", "duration", "slides", "settings"],
    ),
    "campus.Enrolment": (
        "course__organization__code",
        ["course__code", "person__email", "role", "progress", "enrolled_at"],
    ),
    "campus.Certificate": (
        "enrolment__course__organization__code",
        ["enrolment__course__code", "enrolment__person__email", "serial", "issued", "signature"],
    ),
    "campus.Team": ("organization__code", ["name"]),
    "campus.Membership": (
        "team__organization__code",
        ["team__name", "person__email", "function", "since"],
    ),
}

PERSON = [
    *("email", "uuid", "first_name", "last_name", "home_organization__code", "joined"),
    *("profile__headline", "profile__language", "profile__birthday", "profile__photo"),
    "profile__preferences",
]


def owned_rows(code: str, using: str) -> dict[str, Rows]:
    """Return every row that belongs to the organization `code`, by model, with how often it is there."""
    found = {
        label: _rows(apps.get_model(label)._base_manager.using(using).filter(**{path: code}), columns)
        for label, (path, columns) in OWNED.items()
    }
    found["campus.Comment"] = _comments(code, using)
    return found


def needed_people(code: str, using: str) -> set[str]:
    """Return the emails of all people who take part in the organization `code`."""
    rows = owned_rows(code, using)
    taking_part = [*rows["campus.Enrolment"], *rows["campus.Membership"], *rows["campus.Comment"]]
    return {email for _, email, *_ in taking_part if email}


def needed_tags(code: str, using: str) -> set[str]:
    """Return the names of the tags that the courses of the organization `code` have."""
    return set(Tag.objects.using(using).filter(courses__organization__code=code).values_list("name", flat=True))


def needed_categories(code: str, using: str) -> set[str]:
    """Return the codes of the categories that the organization `code` has or uses, with those above them."""
    categories = Category.objects.using(using)
    found = set(categories.filter(organization__code=code).values_list("code", flat=True))
    above = set(categories.filter(courses__organization__code=code).values_list("code", flat=True))
    while above:
        found |= above
        above = set(categories.filter(children__code__in=above).values_list("code", flat=True)) - found
    return found


def people(emails: Iterable[str], using: str) -> Rows:
    """Return these people with their profiles."""
    wanted = set(emails)
    rows = _rows(Person.objects.using(using).all(), PERSON)
    return Counter({row: count for row, count in rows.items() if row[0] in wanted})


def all_rows(model: type[models.Model], using: str) -> dict[Any, tuple[Any, ...]]:
    """Return every row of a model as it is in the database, by primary key."""
    columns = [field.attname for field in model._meta.concrete_fields]
    rows = model._base_manager.using(using).values_list("pk", *columns)
    return {row[0]: tuple(_plain(value) for value in row[1:]) for row in rows.iterator()}


def _comments(code: str, using: str) -> Rows:
    """Comments by what they are about: the course's code and the lesson's position."""
    courses = Course.objects.using(using).filter(organization__code=code)
    lessons = Lesson.objects.using(using).filter(course__organization__code=code)
    subjects: dict[tuple[str, int], tuple[Any, ...]] = {
        **{("course", pk): (course,) for pk, course in courses.values_list("pk", "code")},
        **{("lesson", pk): rest for pk, *rest in lessons.values_list("pk", "course__code", "position")},
    }
    columns = ["content_type__model", "object_id", "author__email", "text", "created"]
    comments = Comment.objects.using(using).filter(content_type__app_label="campus").values_list(*columns)
    return Counter(
        (tuple(subjects[kind, pk]), *rest) for kind, pk, *rest in comments.iterator() if (kind, pk) in subjects
    )


def _rows(queryset: models.QuerySet[Any], columns: list[str]) -> Rows:
    return Counter(tuple(_plain(value) for value in row) for row in queryset.values_list(*columns).iterator())


def _plain(value: Any) -> Any:
    """Return a value that can be hashed and compared across kinds of database."""
    if isinstance(value, dict | list):
        return json.dumps(value, sort_keys=True)
    if isinstance(value, memoryview | bytearray):
        return bytes(value)
    return value
