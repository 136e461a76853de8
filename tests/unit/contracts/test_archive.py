"""ZIPs of photos: refused archives with their codes, and the order of the photos."""

from __future__ import annotations

import io

import pytest

from contracts.archive import list_archive, natural_order, open_archive, read_member
from contracts.errors import SaccadeError
from tests.harness.vision.hostile_archives import HOSTILE, JPEG, lying_about_its_size, wide, zipped


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_zip_is_refused_with_its_code(name: str):
    make, code = HOSTILE[name]
    with pytest.raises(SaccadeError) as refused:
        list_archive(open_archive(io.BytesIO(make())))
    assert refused.value.code == code
    assert refused.value.hint


def test_photos_are_in_natural_order_and_system_files_are_left_out():
    names = ["b/10.JPG", "b/9.jpg", "b/2.heic", "a.png", "notes.txt", "b/masks/9.png"]
    system_files = ["__MACOSX/b/._9.jpg", ".hidden/x.jpg", "b/.DS_Store", "Thumbs.db"]
    listing = list_archive(open_archive(io.BytesIO(zipped(dict.fromkeys([*names, *system_files], JPEG)))))
    found = [picture.name for picture in listing.pictures]
    assert found == [
        "a.png",
        "b/2.heic",
        "b/9.jpg",
        "b/10.JPG",
        "b/masks/9.png",
    ]
    assert listing.skipped == ["notes.txt"]
    assert [picture.name for picture in listing.pictures if picture.mask] == ["b/masks/9.png"]


def test_a_zip64_is_read():
    assert [picture.name for picture in list_archive(open_archive(io.BytesIO(wide()))).pictures] == ["photo.jpg"]


def test_natural_order_compares_any_names():
    names = ["x", "10", "9a", "9", "IMG_2 (10)", "img_2 (9)", "²", ""]
    assert sorted(names, key=natural_order) == ["", "9", "9a", "10", "img_2 (9)", "IMG_2 (10)", "x", "²"]


def test_unpacking_stops_at_the_size_that_an_entry_declares():
    archive = open_archive(io.BytesIO(lying_about_its_size()))
    member = list_archive(archive).pictures[0]
    with pytest.raises(SaccadeError) as refused:
        read_member(archive, member)
    assert refused.value.code == "archive_unreadable"


def test_a_damaged_file_is_named_and_the_others_can_be_read():
    data = bytearray(zipped({"1.jpg": JPEG, "2.jpg": JPEG, "3.jpg": JPEG}))
    data[data.index(b"2.jpg") + 60] ^= 0xFF
    archive = open_archive(io.BytesIO(bytes(data)))
    one, two, three = list_archive(archive).pictures
    assert read_member(archive, one) == read_member(archive, three) == JPEG
    with pytest.raises(SaccadeError, match=r"2\.jpg"):
        read_member(archive, two)
