"""The cells of a study in one committed file, and cells that start from different weights."""

import dataclasses
from collections import Counter

from studies import cache, runner
from tests.studies import test_runner
from tests.studies.test_runner import EVERY, made

toy = test_runner.toy  # the fixture


def lost_and_found(toy, unpack) -> Counter:
    """What a second run makes whose cache was lost and whose archive is there."""
    study = dataclasses.replace(toy(), archive=toy.folder / "results" / "cells.npz")
    table = runner.run(study)
    before = made(toy.folder)
    for file in (toy.folder / "studies" / "toy").iterdir():
        file.unlink()
    unpack(study)
    assert runner.run(study)["rows"] == table["rows"]
    return made(toy.folder) - before


def test_a_lost_cache_comes_back_from_the_archive(toy):
    assert lost_and_found(toy, lambda study: None) == Counter()


def test_the_archive_test_bites(toy):
    assert lost_and_found(toy, lambda study: study.archive.unlink()) == EVERY


def test_cells_of_other_code_stay_in_the_archive(toy):
    archive = toy.folder / "results" / "cells.npz"
    runner.run(dataclasses.replace(toy(), archive=archive))
    before = made(toy.folder)
    runner.run(dataclasses.replace(toy("SCALE = 2", "SCALE = 3"), archive=archive))
    assert made(toy.folder) - before == EVERY


def test_each_cell_may_have_its_own_weights(toy):
    """A changed file makes anew the cells that start from it, and no others."""
    other = toy.folder / "other"
    other.write_bytes(b"5678")
    weights = lambda cell: (
        None if cell["x"] < 3 else other if cell["x"] < 6 else toy.folder / "weights"
    )
    study = dataclasses.replace(toy(), weights=weights)
    table = runner.run(study)
    assert table["source_sha256"] == [
        cache.sha256_of(file) for file in (other, toy.folder / "weights")
    ]
    before = made(toy.folder)
    other.write_bytes(b"9")
    runner.run(study)
    assert made(toy.folder) - before == Counter([3, 4, 5])


def made_without_the_file(toy, told) -> Counter:
    """What a second run makes: the weights are gone, `told` of their SHA-256 is all it knows."""
    file = toy.folder / "weights"
    digest = cache.sha256_of(file)
    table = runner.run(dataclasses.replace(toy(), weights=lambda cell: file))
    before = made(toy.folder)
    file.unlink()
    again = runner.run(dataclasses.replace(toy(), weights=lambda cell: told(digest)))
    assert again["rows"] == table["rows"] and again["source_sha256"] == [told(digest)]
    return made(toy.folder) - before


def test_kept_cells_are_found_by_the_digest_of_their_weights(toy):
    assert made_without_the_file(toy, lambda digest: digest) == Counter()


def test_cells_of_another_digest_are_not_taken(toy):
    assert made_without_the_file(toy, lambda digest: digest[::-1]) == EVERY
