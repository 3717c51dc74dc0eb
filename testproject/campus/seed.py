"""Makes believable data for the learning platform, the same for the same arguments.

The first organization has `learners` people and about ten objects for each of them: the person and her
profile, four enrolments, 1.4 certificates, two comments, and a share of teams, courses and lessons. So 10,000
learners make about 100,000 objects. Every other organization is a tenth of that size, and half of its people
are also people of the first.
"""

from __future__ import annotations

import hashlib
import random
import unicodedata
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import islice, pairwise
from typing import Any

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.core.management.color import no_style
from django.db import connections, models, transaction

from testproject.campus import words
from testproject.campus.models import (
    AuditEntry,
    Category,
    Certificate,
    Comment,
    Course,
    Enrolment,
    Lesson,
    Membership,
    Organization,
    Person,
    Profile,
    Tag,
    Team,
)

BATCH = 2_000
EPOCH = datetime(2023, 1, 9, 8, tzinfo=UTC)
PERIOD = timedelta(days=900)

LEARNERS_PER_COURSE = 50
LEARNERS_PER_TEAM = 100
TAGS = 16
LESSONS_PER_COURSE = len(words.LESSONS)
COMMENTS_PER_LEARNER = 2
COMPLETED = 0.35
IN_A_TEAM = 0.3


@dataclass(frozen=True)
class Seed:
    """What to make.

    `learners`: people of the first organization; `organizations`: how many; `first_organization` and
    `first_person`: where to start in the lists of organizations and of people, so that another site has
    another organization, and shares the people that are in both parts of the list. `other_learners`: people of each
    other organization (default: a tenth).
    """

    learners: int
    organizations: int = 2
    first_organization: int = 0
    first_person: int = 0
    other_learners: int | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        known = len(words.ORGANIZATIONS)
        if self.learners < 1:
            raise ValueError("at least one learner is needed")
        if self.first_person < 0 or self.first_organization < 0:
            raise ValueError("the first organization and person count from 0")
        if self.organizations < 1 or self.first_organization + self.organizations > known:
            raise ValueError(f"there are {known} organizations to choose from, counted from 0")

    def random(self, part: str) -> random.Random:
        """Return the random numbers of one part of the data."""
        return random.Random(f"{self}/{part}")


@dataclass
class Members:
    """The people of one organization: their pks, and which of them also belong to another one."""

    pks: list[int] = field(default_factory=list)
    shared: set[int] = field(default_factory=set)


def plan_members(seed: Seed) -> tuple[int, list[Members]]:
    """Return how many people there are in all, and who belongs to which organization."""
    first = Members(list(range(1, seed.learners + 1)))
    people, members = seed.learners, [first]
    size = max(4, seed.learners // 10 if seed.other_learners is None else seed.other_learners)
    for number in range(1, seed.organizations):
        half = min(size // 2, seed.learners)
        start = (number - 1) * half
        shared = [1 + (start + i) % seed.learners for i in range(half)]
        own = list(range(people + 1, people + 1 + size - half))
        people += len(own)
        members.append(Members(shared + own, set(shared)))
        first.shared.update(shared)
    return people, members


def apply_seed(seed: Seed, using: str) -> None:
    """Write the data into the empty database `using`, in one transaction."""
    people, members = plan_members(seed)
    with transaction.atomic(using=using):
        organizations = list(_make_organizations(seed))
        _insert(organizations, using)
        categories = list(_make_categories(seed, organizations))
        _insert(categories, using)
        _insert(_make_tags(seed), using)
        _insert(_make_people(seed, people, members), using)
        _insert(_make_profiles(seed, people), using)
        _insert(_make_audit_entries(seed, organizations), using)
        pks = Counters()
        for organization, group in zip(organizations, members, strict=True):
            _seed_organization(seed, using, organization, group.pks, categories, pks)
        _reset_sequences(using)


def person_name(number: int) -> tuple[str, str, str]:
    """Return first name, last name and unique email of a person, the same at every site."""
    first = words.FIRST_NAMES[number % len(words.FIRST_NAMES)]
    last = words.LAST_NAMES[(number * 7 + number // len(words.FIRST_NAMES)) % len(words.LAST_NAMES)]
    domain = words.MAIL_DOMAINS[number % len(words.MAIL_DOMAINS)]
    return first, last, f"{_ascii(first)}.{_ascii(last)}.{number + 1}@{domain}"


@dataclass
class Counters:
    """The last pk given in each table."""

    last: dict[type[models.Model], int] = field(default_factory=dict)

    def take(self, model: type[models.Model], count: int = 1) -> range:
        """Return the next `count` pks of a model."""
        start = self.last.get(model, 0) + 1
        self.last[model] = start + count - 1
        return range(start, start + count)


def _seed_organization(
    seed: Seed,
    using: str,
    organization: Organization,
    people: list[int],
    categories: list[Category],
    pks: Counters,
) -> None:
    rng = seed.random(organization.code)
    courses = list(_make_courses(rng, organization, len(people), categories, pks))
    _insert(courses, using)
    lessons = pks.take(Lesson, len(courses) * LESSONS_PER_COURSE)
    _insert(_make_lessons(rng, organization, courses, lessons), using)
    _finish_courses(courses, lessons, using)
    _insert(_make_course_tags(rng, courses), using)
    _insert(_make_prerequisites(courses), using)
    certified: list[tuple[int, date]] = []
    _insert(_make_enrolments(rng, courses, people, pks, certified), using)
    _insert(_make_certificates(rng, certified, pks), using)
    _insert(_make_comments(rng, using, courses, lessons, people, pks), using)
    teams = list(_make_teams(organization, len(people), pks))
    _insert(teams, using)
    _insert(_make_memberships(rng, teams, people, pks), using)


def _make_organizations(seed: Seed) -> Iterator[Organization]:
    rng = seed.random("organizations")
    chosen = words.ORGANIZATIONS[seed.first_organization :][: seed.organizations]
    for pk, (code, name, timezone) in enumerate(chosen, 1):
        created = EPOCH - timedelta(days=rng.randrange(30, 900), microseconds=rng.randrange(10**6))
        logo = f"logos/{code}.png"
        yield Organization(pk=pk, code=code, name=name, timezone=timezone, logo=logo, created=created)


def _make_categories(seed: Seed, organizations: list[Organization]) -> Iterator[Category]:
    pks: dict[str, int] = {}
    roots = [code for code, _, parent in words.CATEGORIES if parent is None]
    shift = seed.first_organization % len(roots)
    for root in roots[shift:] + roots[:shift]:
        for code, name, parent in words.CATEGORIES:
            if code.split(".")[0] == root:
                pks[code] = len(pks) + 1
                yield Category(pk=pks[code], code=code, name=name, parent_id=pks.get(parent or ""))
    for organization in organizations:
        for end, name, parent in words.OWN_CATEGORIES:
            code = f"{organization.code}.{end}"
            pks[code] = len(pks) + 1
            parent_pk = pks.get(f"{organization.code}.{parent}")
            yield Category(pk=pks[code], code=code, name=name, parent_id=parent_pk, organization=organization)


def _make_tags(seed: Seed) -> Iterator[Tag]:
    shift = 3 * seed.first_organization % len(words.TAGS)
    for pk, name in enumerate((words.TAGS[shift:] + words.TAGS[:shift])[:TAGS], 1):
        yield Tag(pk=pk, name=name)


def _make_people(seed: Seed, people: int, members: list[Members]) -> Iterator[Person]:
    rng = seed.random("people")
    homes = {pk: number for number, group in enumerate(members, 1) for pk in group.pks if pk not in group.shared}
    for pk in range(1, people + 1):
        first, last, email = person_name(seed.first_person + pk - 1)
        yield Person(
            pk=pk,
            uuid=uuid.uuid5(uuid.NAMESPACE_URL, f"mailto:{email}"),
            email=email,
            first_name=first,
            last_name=last,
            home_organization_id=homes.get(pk) if rng.random() < 0.8 else None,
            joined=_moment(rng) - timedelta(days=900),
        )


def _make_profiles(seed: Seed, people: int) -> Iterator[Profile]:
    rng = seed.random("profiles")
    for pk in range(1, people + 1):
        number = seed.first_person + pk - 1
        yield Profile(
            pk=pk,
            person_id=pk,
            headline=rng.choice(words.HEADLINES),
            language=rng.choice(words.LANGUAGES),
            birthday=date(1950, 1, 1) + timedelta(days=rng.randrange(20_000)) if rng.random() < 0.7 else None,
            photo=f"photos/{number + 1:06}.jpg" if rng.random() < 0.5 else "",
            preferences={"newsletter": rng.random() < 0.4, "theme": rng.choice(["light", "dark"])},
        )


def _make_audit_entries(seed: Seed, organizations: list[Organization]) -> Iterator[AuditEntry]:
    rng = seed.random("audit")
    for organization in [*organizations, None]:
        for action in words.AUDIT_ACTIONS:
            yield AuditEntry(pk=_uuid(rng), organization=organization, action=action, at=_moment(rng))


def _make_courses(
    rng: random.Random, organization: Organization, people: int, categories: list[Category], pks: Counters
) -> Iterator[Course]:
    shared = {category.code: category for category in categories if category.organization_id is None}
    own = [category for category in categories if category.organization_id == organization.pk]
    subjects = list(words.SUBJECTS)
    rng.shuffle(subjects)
    for number, pk in enumerate(pks.take(Course, max(4, people // LEARNERS_PER_COURSE))):
        rest, place = divmod(number, len(subjects))
        run, level = divmod(rest, len(words.LEVELS))
        subject, name, category = subjects[place]
        code, title = words.LEVELS[level]
        yield Course(
            pk=pk,
            organization=organization,
            code=f"{subject}-{code}" + (f"-{run + 1}" if run else ""),
            title=title.format(name) + (f" (run {run + 1})" if run else ""),
            category=rng.choice(own) if number % 8 == 3 else shared[category],
            price=Decimal(rng.randrange(0, 40_000, 50)) / 100,
            published=rng.random() < 0.9,
            starts=(EPOCH + timedelta(days=7 * rng.randrange(120))).date(),
        )


def _make_lessons(
    rng: random.Random, organization: Organization, courses: list[Course], pks: range
) -> Iterator[Lesson]:
    numbers = iter(pks)
    for course in courses:
        subject = next(name for code, name, _ in words.SUBJECTS if course.code.startswith(code))
        for position, title in enumerate(words.LESSONS, 1):
            slides = f"slides/{organization.code}/{course.code}/{position:02}.pdf"
            yield Lesson(
                pk=next(numbers),
                course=course,
                position=position,
                title=title.format(subject),
                duration=timedelta(minutes=rng.randrange(15, 95, 5), milliseconds=rng.randrange(1000)),
                slides=slides if rng.random() < 0.6 else "",
                settings={
                    "captions": rng.sample(words.LANGUAGES, 2),
                    "quiz": {"questions": rng.randrange(3, 12), "pass": round(rng.uniform(0.5, 0.9), 2)},
                },
            )


def _finish_courses(courses: list[Course], lessons: range, using: str) -> None:
    """Set what refers to lessons, and the time of the last change, which saving would set to now."""
    for number, course in enumerate(courses):
        if number % 3 != 2:
            course.featured_lesson_id = lessons[number * LESSONS_PER_COURSE + number % LESSONS_PER_COURSE]
    manager = Course.objects.using(using)
    manager.bulk_update(courses, ["featured_lesson"], batch_size=200)
    for day in range(min(28, len(courses))):
        updated = EPOCH + PERIOD + timedelta(days=day, microseconds=day * 1_001)
        for part in _batches(course.pk for course in courses[day::28]):
            manager.filter(pk__in=part).update(updated=updated)


def _make_course_tags(rng: random.Random, courses: list[Course]) -> Iterator[models.Model]:
    for course in courses:
        for tag in sorted(rng.sample(range(1, TAGS + 1), 3)):
            yield Course.tags.through(course_id=course.pk, tag_id=tag)


def _make_prerequisites(courses: list[Course]) -> Iterator[models.Model]:
    """The course on the same subject one level below comes first."""
    for easier, course in zip(courses, courses[len(words.SUBJECTS) :], strict=False):
        yield Course.prerequisites.through(from_course_id=course.pk, to_course_id=easier.pk)
    for easier, course in pairwise(courses[:4]):
        yield Course.prerequisites.through(from_course_id=course.pk, to_course_id=easier.pk)


def _make_enrolments(
    rng: random.Random,
    courses: list[Course],
    people: list[int],
    pks: Counters,
    certified: list[tuple[int, date]],
) -> Iterator[Enrolment]:
    """Yield the enrolments; add the pk and the date of each that ended with a certificate to `certified`."""
    teaching: dict[int, set[int]] = {}
    for number in range(len(courses)):
        teaching.setdefault(number % len(people), set()).add(number)
    for place, person in enumerate(people):
        taught = teaching.get(place, set())
        for number in sorted(_choose_courses(rng, len(courses)) | taught):
            [pk] = pks.take(Enrolment)
            enrolled_at = _moment(rng)
            role, progress = _role_and_progress(rng, number in taught)
            if progress == 100:
                certified.append((pk, enrolled_at.date() + timedelta(days=rng.randrange(20, 200))))
            yield Enrolment(
                pk=pk,
                course=courses[number],
                person_id=person,
                role=role,
                progress=progress,
                enrolled_at=enrolled_at,
            )


def _choose_courses(rng: random.Random, count: int) -> set[int]:
    """Return the numbers of four courses or so; the first ones are the most popular."""
    wanted = min(rng.choice([3, 4, 4, 4, 5]), count)
    chosen: set[int] = set()
    while len(chosen) < wanted:
        chosen.add(int(count * rng.random() ** 1.5))
    return chosen


def _role_and_progress(rng: random.Random, teaches: bool) -> tuple[str, Decimal]:
    if teaches:
        return Enrolment.Role.TEACHER, Decimal("0.00")
    role = Enrolment.Role.ASSISTANT if rng.random() < 0.02 else Enrolment.Role.LEARNER
    return role, Decimal("100.00") if rng.random() < COMPLETED else Decimal(rng.randrange(9_500)) / 100


def _make_certificates(rng: random.Random, certified: list[tuple[int, date]], pks: Counters) -> Iterator[Certificate]:
    for pk, (enrolment, issued) in zip(pks.take(Certificate, len(certified)), certified, strict=True):
        serial = _uuid(rng)
        signature = hashlib.sha256(b"campus" + serial.bytes).digest()
        yield Certificate(pk=pk, enrolment_id=enrolment, serial=serial, issued=issued, signature=signature)


def _make_comments(
    rng: random.Random, using: str, courses: list[Course], lessons: range, people: list[int], pks: Counters
) -> Iterator[Comment]:
    types = ContentType.objects.db_manager(using)
    course_type, lesson_type = types.get_for_model(Course), types.get_for_model(Lesson)
    for pk in pks.take(Comment, COMMENTS_PER_LEARNER * len(people)):
        on_course = rng.random() < 0.3
        yield Comment(
            pk=pk,
            content_type_id=course_type.pk if on_course else lesson_type.pk,
            object_id=rng.choice(courses).pk if on_course else rng.choice(lessons),
            author_id=rng.choice(people) if rng.random() < 0.95 else None,
            text=f"{rng.choice(words.COMMENT_OPENINGS)} {rng.choice(words.COMMENT_BODIES)}",
            created=_moment(rng),
        )


def _make_teams(organization: Organization, people: int, pks: Counters) -> Iterator[Team]:
    for number, pk in enumerate(pks.take(Team, max(2, people // LEARNERS_PER_TEAM))):
        run, place = divmod(number, len(words.TEAMS))
        name = words.TEAMS[place] + (f" {run + 1}" if run else "")
        yield Team(pk=pk, organization=organization, name=name)


def _make_memberships(rng: random.Random, teams: list[Team], people: list[int], pks: Counters) -> Iterator[Membership]:
    for person in people:
        if rng.random() < IN_A_TEAM:
            [pk] = pks.take(Membership)
            yield Membership(
                pk=pk,
                team=rng.choice(teams),
                person_id=person,
                function=rng.choice(words.FUNCTIONS),
                since=_moment(rng).date(),
            )


def _insert(objects: Iterable[models.Model], using: str) -> None:
    for batch in _batches(objects):
        type(batch[0])._base_manager.using(using).bulk_create(batch)


def _batches(values: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(values)
    while batch := list(islice(iterator, BATCH)):
        yield batch


def _reset_sequences(using: str) -> None:
    """Let the sequences go on after the pks that were written."""
    connection = connections[using]
    tables = list(apps.get_app_config("campus").get_models())
    with connection.cursor() as cursor:
        for statement in connection.ops.sequence_reset_sql(no_style(), tables):
            cursor.execute(statement)


def _moment(rng: random.Random) -> datetime:
    seconds = rng.randrange(int(PERIOD.total_seconds()))
    return EPOCH + timedelta(seconds=seconds, microseconds=rng.randrange(10**6))


def _uuid(rng: random.Random) -> uuid.UUID:
    return uuid.UUID(int=rng.getrandbits(128), version=4)


def _ascii(name: str) -> str:
    plain = name.lower().replace("ł", "l")
    return unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
