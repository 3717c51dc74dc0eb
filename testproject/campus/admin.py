"""The learning platform in Django's admin."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.contenttypes.admin import GenericTabularInline

from testproject.campus import models


class ProfileInline(admin.StackedInline):
    """A person's profile on her page."""

    model = models.Profile


class LessonInline(admin.TabularInline):
    """The lessons on a course's page."""

    model = models.Lesson
    extra = 0


class CommentInline(GenericTabularInline):
    """The comments on a course's or lesson's page."""

    model = models.Comment
    extra = 0
    raw_id_fields = ["author"]


class MembershipInline(admin.TabularInline):
    """The members on a team's page."""

    model = models.Membership
    extra = 0
    raw_id_fields = ["person"]


@admin.register(models.Organization)
class OrganizationAdmin(admin.ModelAdmin):
    """Organizations."""

    list_display = ["code", "name", "timezone", "created"]
    search_fields = ["code", "name"]


@admin.register(models.Category)
class CategoryAdmin(admin.ModelAdmin):
    """The tree of subjects."""

    list_display = ["code", "name", "parent", "organization"]
    list_filter = ["organization"]
    search_fields = ["code", "name"]


@admin.register(models.Tag)
class TagAdmin(admin.ModelAdmin):
    """Tags."""

    search_fields = ["name"]


@admin.register(models.Person)
class PersonAdmin(admin.ModelAdmin):
    """People with their profiles."""

    list_display = ["email", "first_name", "last_name", "home_organization"]
    list_filter = ["home_organization"]
    search_fields = ["email", "last_name"]
    inlines = [ProfileInline]


@admin.register(models.Course)
class CourseAdmin(admin.ModelAdmin):
    """Courses with their lessons and comments."""

    list_display = ["code", "title", "organization", "category", "price", "published"]
    list_filter = ["organization", "published"]
    search_fields = ["code", "title"]
    raw_id_fields = ["featured_lesson", "prerequisites"]
    inlines = [LessonInline, CommentInline]


@admin.register(models.Lesson)
class LessonAdmin(admin.ModelAdmin):
    """Lessons with their comments."""

    list_display = ["title", "course", "position", "duration"]
    raw_id_fields = ["course"]
    inlines = [CommentInline]


@admin.register(models.Enrolment)
class EnrolmentAdmin(admin.ModelAdmin):
    """Who is in which course."""

    list_display = ["person", "course", "role", "progress", "enrolled_at"]
    list_filter = ["role"]
    list_select_related = ["person", "course"]
    raw_id_fields = ["person", "course"]


@admin.register(models.Certificate)
class CertificateAdmin(admin.ModelAdmin):
    """Certificates."""

    list_display = ["serial", "enrolment", "issued"]
    list_select_related = ["enrolment__person", "enrolment__course"]
    raw_id_fields = ["enrolment"]


@admin.register(models.Comment)
class CommentAdmin(admin.ModelAdmin):
    """Comments."""

    list_display = ["__str__", "author", "content_type", "created"]
    list_filter = ["content_type"]
    raw_id_fields = ["author"]


@admin.register(models.Team)
class TeamAdmin(admin.ModelAdmin):
    """Teams with their members."""

    list_display = ["name", "organization"]
    inlines = [MembershipInline]


@admin.register(models.AuditEntry)
class AuditEntryAdmin(admin.ModelAdmin):
    """What the staff did."""

    list_display = ["at", "action", "organization"]
