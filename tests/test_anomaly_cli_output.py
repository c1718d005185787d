"""What the command line does when its output, or its user, goes away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from anomaly import cli
from embeddings import fake_embedder
from gallery import check

COMMAND = [sys.executable, "-m", "anomaly.cli"]


def run(*words: str | Path, stdout: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, words)], stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60
    )


@pytest.fixture
def closed_pipe() -> Iterator[int]:
    """The writing end of a pipe that nobody reads, as `| head` leaves it."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake embedder in place of any other, in this process."""
    monkeypatch.setattr(
        sys.modules["anomaly.builder"],
        "open_embedder",
        lambda backbone, *, size_px, device: fake_embedder(size_px=size_px),
    )


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_reader_that_went_away_is_no_error_and_no_verdict(
    sound_gallery: Path, closed_pipe: int, form: tuple[str, ...]
) -> None:
    done = run("list", sound_gallery, *form, stdout=closed_pipe)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_an_output_that_is_full_is_an_error_in_one_line(
    sound_gallery: Path, form: tuple[str, ...]
) -> None:
    handle = os.open("/dev/full", os.O_WRONLY)
    done = run("list", sound_gallery, *form, stdout=handle)
    os.close(handle)
    assert done.returncode == 3
    assert "No space left on device" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "internal" not in done.stderr


def test_names_that_would_steer_the_terminal_are_shown_as_escapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file's name may hold anything but a slash: here, what clears the screen."""
    folder = tmp_path / "source" / "carton"
    folder.mkdir(parents=True)
    (folder / "bad\x1b[2J\u202e.png").write_bytes(b"no picture")
    Image.new("RGB", (40, 40), "red").save(folder / "good\x1b[2J\r\n.png")
    for words in (
        ("import", tmp_path / "source", tmp_path / "gallery"),
        ("import", tmp_path / "source", tmp_path / "gallery"),
        ("quarantine", tmp_path / "gallery", "carton"),
        ("check", tmp_path / "no\x1b[2Jne"),
    ):
        monkeypatch.setattr(sys, "argv", ["amiss", *map(str, words)])
        with pytest.raises(SystemExit):
            cli.main()
        captured = capsys.readouterr()
        said = captured.out + captured.err
        assert said
        assert [c for c in said if not c.isprintable() and c != "\n"] == [], said
        assert "\\x1b[2J" in said


# Each picture takes long enough for somebody on a busy machine to interrupt the import.
SLOWLY = """
import time
from anomaly.cli import main
from gallery import catalog
take_in = catalog.take_in
catalog.take_in = lambda *words, **named: (time.sleep(0.05), take_in(*words, **named))[1]
main()
"""


def test_an_interrupted_import_says_so_in_one_line_and_the_next_one_completes(
    tmp_path: Path, write_pictures: Callable[..., Path]
) -> None:
    source = write_pictures(tmp_path / "source", products=200, references=2)
    root = tmp_path / "gallery"
    command = [sys.executable, "-c", SLOWLY, "import", str(source), str(root), "--threads", "1"]
    # Tests that run in the background of a shell inherit an ignored SIGINT.
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while process.poll() is None and not any(root.glob("catalog/originals/*/*")):
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines() == [
        "interrupted; what was finished is kept, run the command again to go on"
    ]
    assert check(root).sound
    assert run("import", source, root, stdout=subprocess.DEVNULL).returncode == 0
    report = check(root)
    assert (report.sound, report.files, report.orphans) == (True, 400, [])
    assert [*root.rglob(".partial-*")] == []


def test_a_gallery_of_which_nothing_serves_is_no_success(
    gallery_copy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (gallery_copy / "CURRENT").unlink()
    monkeypatch.setattr(sys, "argv", ["amiss", "check", str(gallery_copy)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 3
    assert "nothing is published" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("taken", "taken: a file, not a folder; give a folder"),
        ("taken/out", "taken: a file, not a folder; give a folder"),
        ("/proc/out", "/proc/out: can't be written ("),
    ],
)
@pytest.mark.parametrize("verb", ["inspect", "audit", "demo"])
def test_an_out_that_cannot_be_written_is_refused_in_one_line_before_the_work(
    sound_gallery: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fake: None,
    verb: str,
    out: str,
    said: str,
) -> None:
    if out.startswith("/proc") and not Path("/proc").exists():
        pytest.skip("this system has no /proc")
    (tmp_path / "taken").write_text("mine")
    monkeypatch.setattr("anomaly.audit.audit_gallery", None)
    words = {"inspect": ["inspect", sound_gallery, "a.png"], "audit": ["audit", sound_gallery]}
    monkeypatch.chdir(tmp_path)
    arguments = [*words.get(verb, ["demo"]), "--out", out]
    monkeypatch.setattr(sys, "argv", ["amiss", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    captured = capsys.readouterr()
    assert (ended.value.code, captured.out) == (3, "")
    (line,) = captured.err.splitlines()
    assert line.startswith(f"error {said}"), line
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_line_end_in_a_pictures_name_ends_no_line(
    gallery_copy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fake: None,
) -> None:
    picture, gone = tmp_path / "new\nline.png", tmp_path / "no\nthing.png"
    Image.new("RGB", (40, 40), "red").save(picture)
    source = tmp_path / "source" / "product-00"
    source.mkdir(parents=True)
    Image.new("RGB", (40, 40), "red").save(source / "a\nb.png")

    def run(*words: str | Path) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["amiss", *map(str, words)])
        with pytest.raises(SystemExit):
            cli.main()
        captured = capsys.readouterr()
        return [*captured.out.splitlines(), *captured.err.splitlines()]

    good, bad = run("inspect", gallery_copy, picture, gone, "--product", "no such product")
    assert "/new\\nline.png" in good
    assert "/no\\nthing.png: can't be read" in bad
    run("import", source, gallery_copy)
    for name in ("a\nb.png", "a\\nb.png"):  # as it is called, and as it is shown
        done, *_ = run("quarantine", gallery_copy, "product-00", name)
        assert "(a\\nb.png)" in done
        run("release", gallery_copy, "product-00", name)
