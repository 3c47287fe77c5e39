"""Pages that are written: create, edit, rename, delete, settings, and two people at once."""

from __future__ import annotations

import pytest
from flask import Flask
from sqlalchemy import select

from example_app.models import Page, Revision, db

from .person import Person


def revisions(app: Flask, name: str) -> list[str]:
    with app.app_context():
        return list(db.session.scalars(select(Revision.text).where(Revision.name == name)))


def test_create_edit_delete_restore(app: Flask, person: Person) -> None:
    assert person.get("/new?name=Flying+circus").path == "/edit/Flying_circus"
    person.write("/edit/Flying_circus", "It *flies*.")
    assert "<em>flies</em>" in person.get("/wiki/Flying_circus").main
    person.write("/edit/Flying_circus", "It **soars**.")
    assert "<strong>soars</strong>" in person.get("/wiki/Flying_circus").main
    assert "Deleted" in person.fill("/delete/Flying_circus", summary="no more").words
    gone = person.get("/wiki/Flying_circus")
    assert gone.status == 404
    assert "it was deleted on" in gone.words
    assert "Flying circus" not in person.get("/pages").words
    with app.app_context():
        last = db.session.scalar(
            select(Revision.id).where(Revision.name == "Flying circus").order_by(Revision.id.desc())
        )
    assert "Bring this text back" in person.get(f"/revision/{last}").words
    editor = person.get(f"/edit/Flying_circus?revision={last}").form()
    assert editor.values["text"] == "It **soars**."
    assert "Saved." in person.send(editor, action="save").words
    assert "<strong>soars</strong>" in person.get("/wiki/Flying_circus").main


def test_preview_saves_nothing(app: Flask, person: Person) -> None:
    before = person.get("/wiki/Lambdas").main
    answer = person.fill("/edit/Lambdas", text="A **draft**, see [[Nowhere]]", action="preview")
    assert "Preview not saved yet" in answer.words
    assert "<strong>draft</strong>" in answer.main
    assert 'href="/wiki/Nowhere" class="missing"' in answer.main
    assert answer.form().values["text"] == "A **draft**, see [[Nowhere]]"
    assert person.get("/wiki/Lambdas").main == before
    assert len(revisions(app, "Lambdas")) == 1
    assert "Saved." in person.send(answer.form(), action="save").words


def test_link_turns_from_missing_to_existing(person: Person) -> None:
    person.write("/edit/Lambdas", "See [[Flying circus]].")
    assert 'class="missing"' in person.get("/wiki/Lambdas").main
    assert "Pages that wait for it Lambdas" in person.get("/wiki/Flying_circus").words
    person.write("/edit/Flying_circus", "Here.")
    assert 'class="missing"' not in person.get("/wiki/Lambdas").main
    person.fill("/delete/Flying_circus")
    assert 'class="missing"' in person.get("/wiki/Lambdas").main


def test_backlinks_follow_edits_and_renames(person: Person) -> None:
    person.write("/edit/First", "See [[Target]].")
    person.write("/edit/Target", "Here.")
    assert "What links here First" in person.get("/wiki/Target").words
    person.fill("/rename/First", new_name="Second")
    assert "What links here Second" in person.get("/wiki/Target").words
    person.write("/edit/Second", "No more.")
    assert "What links here" not in person.get("/wiki/Target").words


def test_rename_leaves_a_way(person: Person) -> None:
    answer = person.fill("/rename/Lambdas", new_name="Small functions")
    assert answer.path == "/wiki/Small_functions"
    assert person.get("/wiki/Lambdas").path.startswith("/wiki/Small_functions")
    assert "Version 1" in person.get("/history/Small_functions").words
    assert "Version 1" in person.get("/history/Lambdas").words


def test_rename_and_back(person: Person) -> None:
    person.fill("/rename/Lambdas", new_name="Small functions")
    answer = person.fill("/rename/Small_functions", new_name="Lambdas")
    assert answer.path == "/wiki/Lambdas"
    assert person.get("/wiki/Small_functions").path.startswith("/wiki/Lambdas")


def test_rename_without_a_trace(person: Person) -> None:
    form = person.get("/rename/Lambdas").form()
    del form.values["leave_redirect"]
    assert person.send(form, new_name="Small functions").path == "/wiki/Small_functions"
    gone = person.get("/wiki/Lambdas")
    assert gone.status == 404
    assert "it is called Small functions now" in gone.words


def test_rename_to_a_name_that_is_taken(person: Person) -> None:
    answer = person.fill("/rename/Lambdas", new_name="Calls")
    assert answer.status == 400
    assert "There is a page called “Calls” already." in answer.words
    assert person.get("/wiki/Lambdas").status == 200


def test_rename_the_front_page_and_the_navigation(person: Person) -> None:
    person.fill("/rename/Welcome", new_name="Start")
    assert "These are the help topics" in person.get("/").words
    person.fill("/rename/Navigation", new_name="Old navigation")
    assert "Look up" not in person.get("/").words


def test_two_editors(app: Flask, person: Person, other: Person) -> None:
    mine, theirs = person.get("/edit/Lambdas").form(), other.get("/edit/Lambdas").form()
    assert "Saved." in other.send(theirs, text="Theirs, first.", action="save").words
    conflict = person.send(mine, text="Mine, second.", summary="mine", action="save")
    assert conflict.status == 409
    assert "Theirs, first." in conflict.text
    assert conflict.form().values["text"] == "Mine, second."
    assert conflict.form().values["summary"] == "mine"
    assert "Theirs, first." in person.get("/wiki/Lambdas").words
    merged = person.send(conflict.form(), text="Theirs and mine.", action="save")
    assert "Theirs and mine." in merged.words
    assert revisions(app, "Lambdas")[1:] == ["Theirs, first.", "Theirs and mine."]


def test_a_third_editor_during_the_merge(person: Person, other: Person) -> None:
    mine = person.get("/edit/Lambdas").form()
    other.write("/edit/Lambdas", "Second.")
    conflict = person.send(mine, text="Mine.", action="save")
    other.write("/edit/Lambdas", "Third.")
    again = person.send(conflict.form(), action="save")
    assert again.status == 409
    assert "Third." in again.text
    assert again.form().values["text"] == "Mine."


def test_two_create_the_same_page(person: Person, other: Person) -> None:
    mine, theirs = person.get("/edit/Circus").form(), other.get("/edit/Circus").form()
    other.send(theirs, text="Theirs.", action="save")
    conflict = person.send(mine, text="Mine.", action="save")
    assert conflict.status == 409
    assert "Theirs." in conflict.text
    assert "Saved." in person.send(conflict.form(), text="Both.", action="save").words


def test_renamed_while_somebody_edits(person: Person, other: Person) -> None:
    mine = person.get("/edit/Lambdas").form()
    other.fill("/rename/Lambdas", new_name="Small functions")
    conflict = person.send(mine, text="Mine.", action="save")
    assert conflict.status == 409
    assert "this page was renamed from “Lambdas”" in conflict.words
    saved = person.send(conflict.form(), action="save")
    assert saved.path.startswith("/wiki/Small_functions")
    assert "Mine." in saved.words
    # The page that leads there is still one that leads there.
    assert person.get("/wiki/Lambdas").path.startswith("/wiki/Small_functions")


def test_deleted_while_somebody_edits(person: Person, other: Person) -> None:
    mine = person.get("/edit/Lambdas").form()
    other.fill("/delete/Lambdas")
    conflict = person.send(mine, text="Mine.", action="save")
    assert conflict.status == 409
    assert "Saving it creates the page again." in conflict.words
    assert "Mine." in person.send(conflict.form(), action="save").words


@pytest.mark.parametrize("what", ["delete", "rename"])
def test_edited_while_somebody_deletes_or_renames(person: Person, other: Person, what: str) -> None:
    form = person.get(f"/{what}/Lambdas").form()
    other.write("/edit/Lambdas", "Not so fast.")
    answer = person.send(form, new_name="Elsewhere")
    assert answer.status in (400, 409)
    assert "Somebody changed this page in the meantime" in answer.words
    assert "Not so fast." in person.get("/wiki/Lambdas").words


def test_settings(person: Person) -> None:
    answer = person.fill("/settings", title="My wiki", accent="#AA3300", front_page="Lambdas")
    assert "Saved." in answer.words
    front = person.get("/").text
    assert "<h1>My wiki</h1>" in front
    assert "Lambda expressions" in front
    assert "/theme.css?v=2" in front
    assert "#aa3300" in person.get("/theme.css?v=2").text


def test_two_change_the_settings(person: Person, other: Person) -> None:
    mine = person.get("/settings").form()
    other.fill("/settings", title="Theirs")
    answer = person.send(mine, title="Mine")
    assert answer.status == 409
    assert "Theirs: Theirs" in answer.words
    assert answer.form().values["title"] == "Mine"
    assert "Saved." in person.send(answer.form()).words
    assert "Mine" in person.get("/").words


def test_failure_between_write_and_commit_changes_nothing(
    app: Flask, person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.testing = False
    form = person.get("/edit/Lambdas").form()
    before = person.get("/wiki/Lambdas").main

    def fail(targets: object) -> None:
        raise RuntimeError("the power went out")

    monkeypatch.setattr("example_app.edits._forget_backlinks", fail)
    answer = person.send(form, text="Half done", action="save")
    assert answer.status == 500
    assert "This is our fault" in answer.words
    monkeypatch.undo()
    assert person.get("/wiki/Lambdas").main == before
    with app.app_context():
        assert db.session.scalar(select(Page.version).where(Page.name == "Lambdas")) == 1
    assert "Saved." in person.send(form, text="Whole", action="save").words
