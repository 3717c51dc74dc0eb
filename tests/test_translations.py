"""Whatever people meet of the app is there in each of its languages.

After a change of texts, with the programs of GNU gettext (``apt install gettext``), inside ``gestore_sync``:
``django-admin makemessages --all --add-location=file``, fill in what is new, ``django-admin compilemessages``.
These tests need none of those programs.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple

import django
import polib
import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.utils import label_for_field
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db.models import Model
from django.test import Client
from django.utils.functional import Promise
from django.utils.translation import gettext, override, pgettext
from django.utils.translation.template import templatize

import gestore_sync
from gestore_sync import DisableSynchroLog, call_synchronize
from gestore_sync.models import ACTIONS, STATES, ChangeLog, SyncRun
from gestore_sync.plan import Report
from gestore_sync.replaying import describe_left
from gestore_sync.terminal import COUNT_TITLES, PHASES, iter_notes
from testproject.campus.models import Category, Tag

PACKAGE = Path(gestore_sync.__file__).resolve().parent
DJANGO = Path(django.__file__).resolve().parent
LANGUAGES = ("de", "es", "fr", "pl")
OWN = apps.get_app_config("gestore_sync")
COUNTS_OF_ARGUMENTS = {"gettext": 1, "pgettext": 2, "ngettext": 2, "npgettext": 3}

each_language = pytest.mark.parametrize("language", LANGUAGES)
uses_databases = pytest.mark.django_db(databases=["default", "remote"])


class Text(NamedTuple):
    """A text to translate; ``context`` and ``plural`` are empty where it has none."""

    context: str
    singular: str
    plural: str


class NotLiteral(Exception):
    """A text that is put together when it is shown: no catalogue can hold it."""


# Where texts are


def read_call(kind: str, arguments: list[ast.expr]) -> Text:
    """The text of a call of ``gettext`` or one of its kin."""
    used = arguments[: COUNTS_OF_ARGUMENTS[kind]]
    values = [argument.value for argument in used if isinstance(argument, ast.Constant)]
    if len(values) != COUNTS_OF_ARGUMENTS[kind]:
        raise NotLiteral(ast.unparse(ast.List(arguments, ast.Load())))
    context = values.pop(0) if "p" in kind.partition("gettext")[0] else ""
    return Text(context, *values, *([""] if len(values) == 1 else []))


def iter_python_texts(source: str) -> Iterator[Text]:
    """The texts that a module marks, whatever it calls the functions of Django that mark them."""
    tree = ast.parse(source)
    kinds = {
        alias.asname or alias.name: alias.name.removesuffix("_lazy").removesuffix("_noop")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "django.utils.translation"
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            kind = kinds.get(node.func.id)
            if kind in COUNTS_OF_ARGUMENTS:
                yield read_call(kind, node.args)


def iter_template_texts(source: str) -> Iterator[Text]:
    """The texts that a template marks, as ``makemessages`` sees them."""
    string = r"u?'(?:\\.|[^'\\])*'|u?\"(?:\\.|[^\"\\])*\""
    calls = re.finditer(rf"(?<!\w)(_|n?p?gettext)\(((?:{string}|[^()'\"])*)\)", templatize(source))
    for call in calls:
        [expression] = ast.parse(f"f({call[2]})").body
        assert isinstance(expression, ast.Expr)
        assert isinstance(expression.value, ast.Call)
        yield read_call(call[1].replace("_", "gettext"), expression.value.args)


def find_texts() -> dict[Text, list[str]]:
    """All texts of the package, and the files in which they are."""
    found: dict[Text, list[str]] = {}
    readers = {"*.py": iter_python_texts, "*.html": iter_template_texts}
    for pattern, read_texts in readers.items():
        for path in sorted(PACKAGE.rglob(pattern)):
            for text in read_texts(path.read_text()):
                found.setdefault(text, []).append(path.relative_to(PACKAGE).as_posix())
    return found


TEXTS = find_texts()


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("from django.utils.translation import gettext\ngettext('one')", Text("", "one", "")),
        ("from django.utils.translation import gettext_lazy as _\nx = {'a': _('one ' 'two')}", Text("", "one two", "")),
        ("from django.utils.translation import pgettext_lazy\npgettext_lazy('here', 'one')", Text("here", "one", "")),
        ("from django.utils.translation import ngettext as n\nn('%d a', '%d b', 2) % 2", Text("", "%d a", "%d b")),
        ("from django.utils.translation import npgettext\nnpgettext('c', 'a', 'b', 2)", Text("c", "a", "b")),
    ],
)
def test_texts_of_modules_are_found(source: str, text: Text) -> None:
    assert list(iter_python_texts(source)) == [text]


@pytest.mark.parametrize("argument", ["name", "f'{name} more'", "'more ' + name"])
def test_a_text_that_is_put_together_is_found(argument: str) -> None:
    with pytest.raises(NotLiteral):
        list(iter_python_texts(f"from django.utils.translation import gettext as _\n_({argument})"))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ('<b>{% translate "It’s (one)" %}</b>', Text("", "It’s (one)", "")),
        ('<b>{% translate "one" context "here" %}</b>', Text("here", "one", "")),
        ('{{ name|default:_("none") }}', Text("", "none", "")),
        (
            '{% blocktranslate %}{{ n }} of "these" don\'t{% endblocktranslate %}',
            Text("", '%(n)s of "these" don\'t', ""),
        ),
        ("{% blocktranslate count n=n %}a{% plural %}b{% endblocktranslate %}", Text("", "a", "b")),
    ],
)
def test_texts_of_templates_are_found(source: str, text: Text) -> None:
    assert list(iter_template_texts("{% load i18n %}\n" + source)) == [text]


# What the catalogues hold


def read_catalogue(language: str) -> polib.POFile:
    return polib.pofile(str(PACKAGE / "locale" / language / "LC_MESSAGES" / "django.po"))


def get_text(entry: polib.POEntry) -> Text:
    return Text(entry.msgctxt or "", entry.msgid, entry.msgid_plural)


def get_forms(entry: polib.POEntry) -> list[str]:
    """The translations of an entry: one, or as many as there are plural forms."""
    return [entry.msgstr_plural[form] for form in sorted(entry.msgstr_plural)] or [entry.msgstr]


def read_forms(catalogue: Any) -> dict[Text, list[str]]:
    return {get_text(entry): get_forms(entry) for entry in catalogue}


def find_placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"%(?:\(\w+\))?[^\W\d]|%%|\{\w*\}", text))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("%(b)s and %(a)d", ["%(a)d", "%(b)s"]),
        ("%s of %r", ["%r", "%s"]),
        ("100%% of {name}", ["%%", "{name}"]),
        ("%(name) s", []),
    ],
)
def test_placeholders_are_found(text: str, found: list[str]) -> None:
    assert find_placeholders(text) == found


@each_language
def test_every_text_is_translated(language: str) -> None:
    catalogue = read_catalogue(language)
    translated = {get_text(entry) for entry in catalogue if all(get_forms(entry)) and not entry.fuzzy}

    assert {text: files for text, files in TEXTS.items() if text not in translated} == {}


@each_language
def test_a_catalogue_holds_nothing_else(language: str) -> None:
    assert [get_text(entry) for entry in read_catalogue(language) if get_text(entry) not in TEXTS] == []


@each_language
def test_placeholders_are_the_same_in_every_form(language: str) -> None:
    wrong = [
        form
        for entry in read_catalogue(language)
        for form in get_forms(entry)
        if find_placeholders(form) != find_placeholders(entry.msgid_plural or entry.msgid)
    ]

    assert wrong == []


@each_language
def test_a_text_begins_and_ends_as_its_source_does(language: str) -> None:
    def outline(text: str) -> tuple[bool, str]:
        return text[0].isspace(), text[-1] if text[-1] in ".…:?! \n" else ""

    wrong = [
        form
        for entry in read_catalogue(language)
        for form in get_forms(entry)
        if outline(form) != outline(entry.msgid_plural or entry.msgid)
    ]

    assert wrong == []


@pytest.mark.parametrize(("language", "number"), [("de", 2), ("es", 3), ("fr", 2), ("pl", 4)])
def test_every_plural_form_is_there(language: str, number: int) -> None:
    catalogue = read_catalogue(language)

    assert f"nplurals={number};" in catalogue.metadata["Plural-Forms"]
    numbers = {len(entry.msgstr_plural) for entry in catalogue if entry.msgid_plural}
    assert numbers == {number}


@each_language
def test_the_compiled_catalogue_holds_what_its_source_says(language: str) -> None:
    source = read_catalogue(language)
    compiled = polib.mofile(str(PACKAGE / "locale" / language / "LC_MESSAGES" / "django.mo"))

    assert read_forms(compiled) == read_forms(source)
    assert compiled.metadata["Plural-Forms"] == source.metadata["Plural-Forms"]
    assert compiled.metadata["Content-Type"] == "text/plain; charset=UTF-8"
    assert compiled.metadata["Language"] == language


@each_language
def test_what_django_says_itself_is_said_as_django_says_it(language: str) -> None:
    """Which of two apps' translations of one text is shown depends on the order of INSTALLED_APPS."""
    theirs: dict[Text, list[list[str]]] = {}
    for path in (DJANGO / "conf", *sorted((DJANGO / "contrib").iterdir())):
        catalogue = path / "locale" / language / "LC_MESSAGES" / "django.po"
        for text, forms in read_forms(polib.pofile(str(catalogue))).items() if catalogue.exists() else ():
            theirs.setdefault(text, []).append(forms)

    ours = read_forms(read_catalogue(language))

    assert {text: forms for text, forms in ours.items() if forms not in theirs.get(text, [forms])} == {}
    assert any(text in theirs for text in ours)


# What is marked


@pytest.mark.parametrize("model", OWN.get_models(), ids=lambda model: model.__name__)
def test_names_of_models_and_fields_are_marked(model: Any) -> None:
    fields = [field for field in model._meta.local_fields if not field.primary_key]

    assert isinstance(model._meta.verbose_name, Promise)
    assert isinstance(model._meta.verbose_name_plural, Promise)
    assert [field.name for field in fields if not isinstance(field.verbose_name, Promise)] == []
    assert [codename for codename, name in model._meta.permissions if not isinstance(name, Promise)] == []


def test_choices_and_the_name_of_the_app_are_marked() -> None:
    assert all(isinstance(label, Promise) for _value, label in (*ACTIONS, *STATES))
    assert isinstance(OWN.verbose_name, Promise)


def test_what_the_admin_shows_of_its_own_is_marked() -> None:
    admins = [own for model, own in admin.site._registry.items() if model._meta.app_label == "gestore_sync"]
    named = {name: own for own in admins for name in (*own.list_display, *(own.fields or ()))}
    named = {name: own for name, own in named.items() if inspect.ismethod(getattr(own, name, None))}

    plain = [name for name, own in named.items() if name != "__str__"]
    assert len(plain) > 5
    assert [name for name in plain if not isinstance(getattr(named[name], name).short_description, Promise)] == []


def test_every_phase_and_count_has_a_title() -> None:
    phases = {
        node.args[0].value
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "start"
        if node.args and isinstance(node.args[0], ast.Constant)
    }

    assert phases == set(PHASES)
    assert set(Report.COUNTS) < set(COUNT_TITLES)


def find_unmarked(source: str) -> list[str]:
    """The words of a template that stand beside its tags, or in an attribute that people read."""
    source = re.sub(r"\{% (blocktrans|block bodyclass).*?\{% end(blocktrans|block)\w* %\}", "", source, flags=re.DOTALL)
    source = re.sub(r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}", "", source, flags=re.DOTALL)
    attributes = re.findall(r'\b(?:value|title|alt|placeholder|aria-label)="([^"]*)"', source)
    return re.findall(r"[^\W\d_]+", " ".join([re.sub(r"<[^>]*>|&\w+;", " ", source), *attributes]))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.html")), ids=lambda path: path.name)
def test_templates_have_no_unmarked_words(path: Path) -> None:
    assert find_unmarked(path.read_text()) == []


@pytest.mark.parametrize("source", ["<p>Word</p>", '<input value="Word">', "{% if a %}Word{% endif %}"])
def test_the_rule_about_templates_sees_unmarked_words(source: str) -> None:
    assert find_unmarked(source) == ["Word"]


# What people meet


DONE = {
    "en": "Synchronization performed successfully.",
    "de": "Die Synchronisierung wurde erfolgreich durchgeführt.",
    "es": "La sincronización se realizó correctamente.",
    "fr": "La synchronisation a été effectuée avec succès.",
    "pl": "Synchronizacja została wykonana pomyślnie.",
}
NO_CHANGES = {
    "en": "No changes since last synchronization.",
    "de": "Keine Änderungen seit der letzten Synchronisierung.",
    "es": "No hay cambios desde la última sincronización.",
    "fr": "Aucune modification depuis la dernière synchronisation.",
    "pl": "Brak zmian od ostatniej synchronizacji.",
}


@pytest.fixture
def _watched(settings: Any) -> None:
    settings.SYNCHRO_MODELS = ["campus"]


@uses_databases
@pytest.mark.usefixtures("_watched")
@pytest.mark.parametrize("language", DONE)
def test_call_synchronize_answers_in_the_active_language(language: str) -> None:
    Tag.objects.create(name="red")

    with override(language):
        messages = call_synchronize(), call_synchronize()

    assert messages == (DONE[language], NO_CHANGES[language])


@uses_databases
@pytest.mark.usefixtures("_watched")
@pytest.mark.parametrize("region", ["de-at", "de-ch", "es-mx", "es-ar", "fr-ca"])
def test_a_region_has_its_language(region: str) -> None:
    with override(region):
        assert call_synchronize() == NO_CHANGES[region[:2]]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (1, "1 obiekt nie mógł zostać zsynchronizowany i nadal oczekuje."),
        (2, "2 obiekty nie mogły zostać zsynchronizowane i nadal oczekują."),
        (5, "5 obiektów nie mogło zostać zsynchronizowanych i nadal oczekuje."),
        (12, "12 obiektów nie mogło zostać zsynchronizowanych i nadal oczekuje."),
        (22, "22 obiekty nie mogły zostać zsynchronizowane i nadal oczekują."),
    ],
)
def test_polish_counts_in_its_own_way(number: int, message: str) -> None:
    report = Report(failures=[{"model": "app.Model", "pk": str(at)} for at in range(number)])

    with override("pl"):
        assert describe_left(report) == message


@pytest.mark.parametrize(
    ("language", "lines"),
    [
        (
            "en",
            [
                "1 app.Line row mentions it; --own app.Line.order takes it.",
                "1,200 app.Note rows mention it; --own app.Note.order takes them.",
                "app.Order objects are created without what hangs on them: 3 by app.Line.order.",
                "Warning: Mind this.",
                "Conflict (local): Both changed.",
                "    name: 'a' | 'b'",
                "Failed: app.Order.7: Refused.",
            ],
        ),
        (
            "de",
            [
                "1 Zeile von app.Line verweist darauf; --own app.Line.order nimmt sie mit.",
                "1,200 Zeilen von app.Note verweisen darauf; --own app.Note.order nimmt sie mit.",
                "Objekte von app.Order werden ohne das erstellt, was an ihnen hängt: 3 über app.Line.order.",
                "Warnung: Mind this.",
                "Konflikt (lokal): Both changed.",
                "    name: 'a' | 'b'",
                "Fehlgeschlagen: app.Order.7: Refused.",
            ],
        ),
    ],
)
def test_notes_of_the_command_are_translated(language: str, lines: list[str]) -> None:
    problem = {"model": "app.Order", "pk": "7", "natural_key": None}
    report = Report(
        mentions={"app.Line.order": 1, "app.Note.order": 1200},
        left_behind={"app.Order": {"app.Line.order": 3}},
        warnings=["Mind this."],
        conflicts=[{**problem, "resolved": "local", "reason": "Both changed.", "fields": {"name": ["a", "b"]}}],
        failures=[{**problem, "reason": "Refused."}],
    )

    with override(language):
        assert list(iter_notes(report)) == lines


def synchronize(*arguments: str) -> str:
    output = io.StringIO()
    call_command("synchronize", *arguments, stdout=output, stderr=io.StringIO())
    return output.getvalue()


@uses_databases
@pytest.mark.usefixtures("_watched")
def test_the_command_speaks_the_language_of_the_site(settings: Any) -> None:
    settings.LANGUAGE_CODE = "pl"
    Tag.objects.create(name="red")

    words = [line.split() for line in synchronize().splitlines()]

    assert words == [
        ["model", "utworzone", "przez"],
        ["campus.Tag", "1", "dziennik", "zmian"],
        ["razem", "1"],
        DONE["pl"].split(),
    ]
    assert json.loads(synchronize("--format", "json"))["message"] == NO_CHANGES["pl"]


@uses_databases
def test_the_command_tells_in_the_language_of_the_site_that_there_is_no_remote(settings: Any) -> None:
    settings.LANGUAGE_CODE = "fr"
    settings.SYNCHRO_REMOTE = None

    with pytest.raises(CommandError, match=r"^Aucune base de données REMOTE n’est indiquée dans les réglages\.$"):
        synchronize()


def normalize(words: str) -> str:
    """Words as they are compared: pages write some with a capital, in brackets or with a colon."""
    return " ".join(unescape(words).split()).strip("()\u203a: ").lower()


def read_page(client: Client, language: str, path: str, **posted: str) -> set[str]:
    """What people see of a page, tag by tag, the names of buttons included, the admin's list of all models left out."""
    with override(language):
        response = client.post(path, posted) if posted else client.get(path)
        content = response.content.decode()
    assert response.status_code == 200
    content = re.sub(
        r"<(head|script|svg|nav [^>]*nav-sidebar)\b.*?</(head|script|svg|nav)>", "", content, flags=re.DOTALL
    )
    content = re.sub(r'<input type="submit"[^>]*value="([^"]*)"[^>]*>', r">\1<", content)
    return {normalize(words) for words in re.split(r"<[^>]*>|[<>]", content)}


def is_shown(words: str, page: set[str]) -> bool:
    return normalize(words) in page


def translate(text: Text) -> str:
    return pgettext(text.context, text.singular) if text.context else gettext(text.singular)


def find_lost(pages: dict[str, set[str]], texts: list[Text]) -> list[tuple[str, str]]:
    """What the English page says, and the page in another language does not say in any sense of the words."""
    said = {text.singular for text in texts if is_shown(text.singular, pages["en"])}
    found = []
    for language in LANGUAGES:
        with override(language):
            kept = {text.singular for text in texts if is_shown(translate(text), pages[language])}
        found += [(language, words) for words in sorted(said - kept)]
    return found


def leave_conflicts() -> None:
    """Let a run settle a conflict, and fail with another one, as both sites have a category with one code."""
    settled, open_ = Category.objects.create(code="a", name="A"), Category.objects.create(code="b", name="B")
    call_synchronize()
    with DisableSynchroLog():
        Category.objects.using("remote").filter(code="a").update(name="Theirs")
        Category(code="taken", name="Taken").save(using="remote")
    settled.name = "Ours"
    settled.save()
    open_.code = "taken"
    open_.save()
    Tag.objects.create(name="red")
    call_synchronize()
    Tag.objects.create(name="green")


ON_THE_PAGE = (
    *("State", "Checkpoint", "Pending changes", "Last runs", "Synchronize", "Preview", "Reset…"),
    *("Conflicts", "Field", "Local", "not resolved", "resolved: the local value was taken"),
)


@pytest.fixture
def client(_watched: None) -> Client:
    """The browser of one who may do everything, at a site with a change to send, runs and conflicts."""
    leave_conflicts()
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


@uses_databases
@pytest.mark.parametrize(
    ("path", "posted", "known"),
    [
        ("", {}, ON_THE_PAGE),
        ("", {"preview": "1"}, ("Preview", "Created", "Nothing was written: this is what would be done.")),
        ("?reset=1", {}, ("Reset the synchronization", "Yes, I’m sure", "No, take me back")),
    ],
    ids=["page", "preview", "reset"],
)
def test_the_page_is_translated(client: Client, path: str, posted: dict[str, str], known: tuple[str, ...]) -> None:
    places = ("templates/gestore_sync/", "views.py", "pushing.py")
    texts = [text for text, files in TEXTS.items() if any(name.startswith(places) for name in files)]

    pages = {language: read_page(client, language, f"/synchro/{path}", **posted) for language in ("en", *LANGUAGES)}

    assert [words for words in known if not is_shown(words, pages["en"])] == []
    assert find_lost(pages, texts) == []


@uses_databases
@each_language
def test_runs_and_resets_are_told_in_the_language_of_the_page(client: Client, language: str) -> None:
    result = read_page(client, language, "/synchro/", synchro="1")
    with override(language):
        client.post("/synchro/", {"reset": "1"})
    after_reset = read_page(client, language, "/synchro/")

    with override(language):
        assert is_shown(gettext("Result"), result)
        assert is_shown(describe_left(Report(failures=[{"model": "campus.Category", "pk": "1"}])), result)
        assert is_shown(gettext("Synchronization has been reset."), after_reset)


@uses_databases
@pytest.mark.parametrize("model", [ChangeLog, SyncRun], ids=lambda model: model.__name__)
def test_lists_of_the_admin_are_translated(client: Client, model: type[Model]) -> None:
    own = admin.site.get_model_admin(model)
    for language in LANGUAGES:
        page = read_page(client, language, f"/admin/gestore_sync/{model._meta.model_name}/")

        with override(language):
            titles = [str(label_for_field(column, model, own)) for column in own.list_display]
            titles += [str(OWN.verbose_name), str(model._meta.verbose_name_plural), gettext("Synchronize databases")]
            assert [title for title in titles if not is_shown(title, page)] == []


@uses_databases
def test_a_run_in_the_admin_is_translated(client: Client) -> None:
    path = f"/admin/gestore_sync/syncrun/{SyncRun.objects.latest('pk').pk}/change/"
    known = ("identity", "origin", "remote", "started", "finished", "error", "roots", "counts", "entries", "Conflicts")
    texts = [Text("", title, "") for title in (*known, "not resolved")]

    pages = {language: read_page(client, language, path) for language in ("en", *LANGUAGES)}

    assert [text for text in texts if not is_shown(text.singular, pages["en"])] == []
    assert find_lost(pages, texts) == []


@uses_databases
def test_the_index_of_the_admin_is_translated(client: Client) -> None:
    for language in LANGUAGES:
        page = read_page(client, language, "/admin/")

        with override(language):
            assert is_shown(gettext("Synchronization"), page)
            assert is_shown(gettext("synchronize databases"), page)
