"""The triggers of the change log as objects of django-pgtrigger: the SQL that they run.

They are statement-level triggers with transition tables: one INSERT into the log for each statement that changes rows.
They are not registered with django-pgtrigger, whose registry would ask for migrations in the watched apps, and have
names of our own, which its commands leave alone.

The functions run with the rights of who installed them, as not everybody who may write a table may write the log; so
they find nothing by a search path.
"""

from __future__ import annotations

from typing import Any

import pgtrigger
from django.contrib.contenttypes.models import ContentType
from pgtrigger import compiler

from gestore_sync.captures import DELETE, INSERT, TRUNCATE, UPDATE, Capture
from gestore_sync.entrysql import NEW, OLD, Tables, literal, render_entries
from gestore_sync.models import PENDING, ChangeLog
from gestore_sync.muting import EVERYTHING

EVENTS: dict[str, Any] = {
    INSERT: (pgtrigger.After, pgtrigger.Insert, {"new": NEW}),
    UPDATE: (pgtrigger.After, pgtrigger.Update, {"old": OLD, "new": NEW}),
    DELETE: (pgtrigger.After, pgtrigger.Delete, {"old": OLD}),
    TRUNCATE: (pgtrigger.Before, pgtrigger.Truncate, {}),
}

TEMPLATE = """
    CREATE OR REPLACE FUNCTION {pgid}() RETURNS trigger
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
        #variable_conflict use_column
        {declare}
        BEGIN
            {func}
            RETURN NULL;
        END;
    $$;
    REVOKE ALL ON FUNCTION {pgid}() FROM PUBLIC;
    DROP TRIGGER IF EXISTS {pgid} ON {table};
    CREATE TRIGGER {pgid} {when} {operation} ON {table} {referencing} FOR EACH {level} EXECUTE FUNCTION {execute};
    COMMENT ON TRIGGER {pgid} ON {table} IS '{hash}';
"""

# What runs for each statement. The type of content is looked up each time: "flush" numbers them anew.
FUNCTION = """
    IF string_to_array(current_setting('gestore_sync.muted', true), ',') && ARRAY[{everything}, {label}]
            OR to_regclass({log_name}) IS NULL OR to_regclass({types_name}) IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT id INTO gestore_sync_type FROM {types} WHERE app_label = {app} AND model = {model};
    IF gestore_sync_type IS NULL THEN
        INSERT INTO {types} (app_label, model) VALUES ({app}, {model}) ON CONFLICT DO NOTHING;
        SELECT id INTO gestore_sync_type FROM {types} WHERE app_label = {app} AND model = {model};
    END IF;
    INSERT INTO {log} (content_type_id, object_id, date, action, data, origin, state)
    SELECT gestore_sync_type, object_id, clock_timestamp(), action, data, NULL, {pending} FROM ({entries}) AS entries
    WHERE object_id IS NOT NULL;
"""


class LogTrigger(pgtrigger.Trigger):
    """A trigger that writes the change log."""

    level = pgtrigger.Statement

    def __init__(self, capture: Capture, tables: Tables) -> None:
        self.capture = capture
        self.tables = tables
        when, operation, names = EVENTS[capture.operation]
        referencing = pgtrigger.Referencing(**names) if names else None  # type: ignore[no-untyped-call]
        super().__init__(name=capture.operation, when=when, operation=operation, referencing=referencing)

    def get_pgid(self, model: Any) -> str:
        """The name of the trigger and its function: without the prefix that django-pgtrigger takes for its own."""
        return self.capture.name

    def get_declare(self, model: Any) -> list[tuple[str, str]]:
        """The variables of the function."""
        return [("gestore_sync_type", "bigint")]

    def get_func(self, model: Any) -> str:
        """The body of the function."""
        logged = self.capture.logged._meta
        log, types = self.tables[ChangeLog].name, self.tables[ContentType].name
        return FUNCTION.format(
            everything=literal(EVERYTHING),
            label=literal(self.capture.model._meta.label_lower),
            log=log,
            log_name=literal(log),
            types=types,
            types_name=literal(types),
            app=literal(logged.app_label),
            model=literal(str(logged.model_name)),
            pending=PENDING,
            entries=render_entries(self.capture, self.tables),
        )

    def compile(self, model: Any) -> Any:
        """What installs it."""
        return compiler.Trigger(
            name=self.name,
            sql=LogTriggerSql(
                pgid=self.get_pgid(model),
                declare=self.render_declare(model),
                func=self.render_func(model),
                table=self.tables[self.capture.table].name,
                when=self.when,
                operation=self.operation,
                referencing=self.referencing or "",
                level=self.level,
                execute=self.render_execute(model),
            ),
        )


class LogTriggerSql(compiler.UpsertTriggerSql):
    """The statements that install a trigger."""

    def get_template(self) -> str:
        """The statements, with names for what differs."""
        return TEMPLATE
