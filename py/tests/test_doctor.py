"""``python -m diskcache_rs doctor``: what a drive is and does, for people and for scripts."""

import json
from pathlib import Path

import pytest

from diskcache_rs.__main__ import main


def test_a_local_disk_is_sound_and_left_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(tmp_path), str(tmp_path), "--json"]) in (0, 1)  # 1: its space may be short
    said = json.loads(capsys.readouterr().out)
    by_name = {finding["what"]: finding for finding in said["findings"]}
    assert by_name["link"]["severity"] == by_name["link between hosts"]["severity"] == "good"
    assert by_name["locks between hosts"]["severity"] == "good"
    assert list(tmp_path.iterdir()) == []


def test_what_nobody_may_write_to_is_unusable_and_the_reason_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "/proc"]) == 3
    text = capsys.readouterr().out
    assert text.startswith("/proc: unusable")
    assert "UNSOUND writing: refused" in text


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(tmp_path / "gone")]) == 3
    assert "gone" in capsys.readouterr().err
