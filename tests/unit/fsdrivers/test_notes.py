"""Notes have an end, each and all together."""

from __future__ import annotations

from bounded import bounded

from fsdrivers.notes import MAX_NOTE, MAX_NOTES, Notes


def test_each_once_and_the_rest_as_a_number() -> None:
    notes = Notes(["a", "b", "a"], most=3)
    notes += ["b", "c"]
    assert notes == ["a", "b", "c"]
    notes.append("d")
    notes.extend(["e", "a", "f"])
    assert notes == ["a", "b", "c", "and 3 more notes"]
    assert next(iter(notes)) == "a"


def test_a_long_one_is_cut() -> None:
    notes = Notes(["x" * MAX_NOTE, "y" * (MAX_NOTE + 1)])
    assert [len(note) for note in notes] == [MAX_NOTE, MAX_NOTE]
    assert notes[1].endswith("y...")


def test_a_million() -> None:
    def all_of_them() -> int:
        notes = Notes()
        for number in range(200_000):
            notes.append(f"{number} " + "x" * 600)
        return len(notes)

    assert bounded(all_of_them).value == MAX_NOTES + 1
