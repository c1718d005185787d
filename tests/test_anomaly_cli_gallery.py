"""The verbs that keep a gallery in order, as a user meets them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from anomaly import cli
from anomaly.joblog import JobLog
from embeddings import fake_embedder
from gallery import Gallery, read_current
from gallery.durable import writer_lock

Run = tuple[int, str, str]


@pytest.fixture
def amiss(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Run]:
    """Run `amiss WORDS` in this process, on the fake embedder: (exit code, stdout, stderr)."""
    monkeypatch.setattr(
        sys.modules["anomaly.builder"],
        "open_embedder",
        lambda backbone, *, size_px, device: fake_embedder(size_px=size_px),
    )

    def run(*words: str | Path) -> Run:
        monkeypatch.setattr(sys, "argv", ["amiss", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err + captured.out
        return int(stop.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def root(amiss: Callable[..., Run], write_pictures: Callable[..., Path], tmp_path: Path) -> Path:
    source = write_pictures(tmp_path / "source", products=4, references=3)
    assert amiss("build", source, tmp_path / "gallery")[0] == 0
    return tmp_path / "gallery"


def test_a_withheld_reference_leaves_at_once_and_with_the_next_rebuild_and_comes_back(
    amiss: Callable[..., Run], root: Path
) -> None:
    first = read_current(root).build
    code, out, _ = amiss("quarantine", root, "product-00", "00.png", "--why", "torn")
    assert code == 0
    assert "quarantine product-00" in out
    assert "serves now" in out
    code, out, _ = amiss("quarantine", root, "product-00", "00.png")
    assert (code, "nothing to do" in out) == (0, True)
    assert amiss("rebuild", root)[0] == 0
    second = read_current(root).build
    code, out, _ = amiss("diff", root, first, second, "--json")
    found = json.loads(out)
    assert (found["schema"], found["same"], list(found["removed"])) == (
        "amiss.diff/1", False, ["product-00"],
    )  # fmt: skip
    assert "- product-00: " in amiss("diff", root, first, second)[1]
    _, out, _ = amiss("release", root, "product-00", "--json")
    assert len(json.loads(out)["references"]) == 1  # only one was withheld
    assert amiss("rebuild", root)[0] == 0
    assert "the same references" in amiss("diff", root, first, read_current(root).build)[1]
    assert '"why": "torn"' in (root / "catalog" / "journal.jsonl").read_text("utf-8")


def test_going_back_and_forth_and_letting_go(amiss: Callable[..., Run], root: Path) -> None:
    first = read_current(root).build
    amiss("remove", root, "product-03", "02.png")
    amiss("rebuild", root)
    second = read_current(root).build
    code, out, err = amiss("rollback", root)
    assert (code, first in out, read_current(root).build) == (0, True, first)
    assert "1 references serve again that were withdrawn since" in err
    code, _, err = amiss("rollback", root)
    assert code == 2
    assert "no build before" in err
    _, out, _ = amiss("publish", root, second, "--json")
    assert json.loads(out)["build"] == second
    said = amiss("prune", root, "--keep", "1", "--dry-run")[1].splitlines()
    assert f"would go: build {first}" in said
    assert any(line.startswith("would go: 1 builds") for line in said)
    assert not any(second in line for line in said)
    _, out, _ = amiss("prune", root, "--keep", "1", "--json")
    assert json.loads(out)["builds"] == [first]
    assert amiss("check", root)[0] == 0
    code, _, err = amiss("prune", root.parent / "nowhere", "--keep", "1")
    assert (code, "not a gallery" in err) == (3, True)
    assert not (root.parent / "nowhere").exists()
    assert amiss("add", root.parent, root.parent / "nowhere")[0] == 3
    assert not (root.parent / "nowhere").exists()


def test_a_products_references_are_listed_with_their_files(
    amiss: Callable[..., Run], root: Path
) -> None:
    amiss("quarantine", root, "product-00", "00.png")
    code, out, _ = amiss("list", root, "--product", "product-00", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [(row["name"], row["state"]) for row in rows] == [
        ("00.png", "quarantined"), ("01.png", "serving"), ("02.png", "serving")
    ]  # fmt: skip
    assert {row["schema"] for row in rows} == {"amiss.references/1"}
    _, out, _ = amiss("list", root, "--product", "product-00")
    assert rows[0]["reference_id"][:12] in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("remove", "product-09"), "no product 'product-09'"),
        (("remove", "product-00", "nothing.png"), "no reference 'nothing.png'"),
        (("list", "--product", "product-09"), "no product 'product-09'"),
        (("publish", "20200101T000000Z-0000000000000000"), "there is no build"),
        (("diff", "a", "b"), "there is no build"),
    ],
)
def test_what_is_not_there_is_named_and_nothing_changes(
    amiss: Callable[..., Run], root: Path, words: tuple[str, ...], said: str
) -> None:
    before = (root / "catalog" / "journal.jsonl").read_bytes(), (root / "CURRENT").read_bytes()
    code, _, err = amiss(words[0], root, *words[1:])
    assert code == 2
    assert said in err
    after = (root / "catalog" / "journal.jsonl").read_bytes(), (root / "CURRENT").read_bytes()
    assert after == before


def test_a_rebuild_is_foreseen_and_much_that_is_lost_must_be_approved(
    amiss: Callable[..., Run], root: Path, write_pictures: Callable[..., Path]
) -> None:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    more = write_pictures(root.parent / "more", products=5, references=1, seed=50)
    amiss("import", more, root)
    amiss("remove", root, "product-01")
    amiss("remove", root, "product-02")
    before = read_current(root).build
    code, out, _ = amiss("rebuild", root, "--dry-run", "--json")
    found = json.loads(out)
    assert (found["embed"], found["kept"], found["dropped"]) == (3, 6, 6)
    assert (found["products_added"], found["products_removed"]) == (
        ["product-04"], ["product-01", "product-02"],
    )  # fmt: skip
    assert found["lost"] == 0.25  # 12 references -> 9
    assert code == 1
    assert read_current(root).build == before
    assert {p for p in root.rglob("*") if p.is_file()} >= set(files)
    assert amiss("rebuild", root)[0] == 1
    assert amiss("rebuild", root, "--approve")[0] == 0
    assert read_current(root).build != before
    _, out, _ = amiss("rebuild", root, "--dry-run")
    assert "would embed 0 references, keep 9, drop 0; 0% of references or products lost" in out
    assert "embed 9" in amiss("rebuild", root, "--dry-run", "--full")[1]


def test_a_replaced_reference_is_served_at_once_and_the_next_rebuild_takes_it_in(
    amiss: Callable[..., Run], root: Path, make_png: Callable[..., bytes], tmp_path: Path
) -> None:
    (tmp_path / "sharper.png").write_bytes(make_png(77))
    words = ("replace", root, "product-01", "00.png", tmp_path / "sharper.png", "--why", "sharper")
    code, out, _ = amiss(*words, "--json")
    done = json.loads(out)
    assert (code, len(done["removed"])) == (0, 1)
    assert (done["update"]["published"], done["update"]["tally"]["embedded"]) == (True, 1)
    with Gallery.open(root) as gallery:
        served = {one.reference_id for one in gallery.stored("product-01").references}
    assert done["reference_id"] in served
    assert not served & set(done["removed"])
    assert "nothing to do" in amiss(*words)[1]
    code, out, _ = amiss("rebuild", root, "--json")
    built = json.loads(out)
    assert (code, built["exit_code"], built["published"]) == (0, 0, True)
    assert (built["tally"]["embedded"], built["tally"]["copied"]) == (0, 12)
    listed = amiss("rebuild", root, "--json")[1]
    assert json.loads(listed)["unchanged"] is True


def test_a_scheduler_gets_one_summary_and_an_exit_code_that_tells_why(
    amiss: Callable[..., Run], root: Path, tmp_path: Path
) -> None:
    log = tmp_path / "job.log"
    with writer_lock(root / "builds"):
        code, out, err = amiss("rebuild", root, "--full", "--json", "--log", log)
    (ended,) = [json.loads(line) for line in out.splitlines()]
    assert (code, ended["exit_code"], ended["error"]["code"]) == (5, 5, "gallery_busy")
    assert "is writing here" in err
    code, out, _ = amiss("rebuild", root, "--full", "--json", "--log", log)
    (ended,) = [json.loads(line) for line in out.splitlines()]
    assert (code, ended["exit_code"], ended["tally"]["embedded"]) == (0, 0, 12)
    assert {"parent", "build_id", "gates", "seconds", "published"} <= set(ended)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    events = [line["event"] for line in lines]
    assert events == ["start", "end", "start", *["stage"] * (len(events) - 4), "end"]
    assert lines[-1]["build_id"] == ended["build_id"]
    assert {"shards", "index", "gates"} <= {line.get("stage") for line in lines}
    code, out, _ = amiss("rebuild", tmp_path / "nowhere", "--json")
    assert (code, json.loads(out)["error"]["code"]) == (3, "not_a_gallery")


def test_a_job_log_tells_how_much_is_left(tmp_path: Path) -> None:
    now = [0.0]
    log = JobLog(tmp_path / "log", clock=lambda: now[0])
    for second, done in ((1, 40), (11, 60), (31, 80), (32, 81), (62, 100)):
        now[0] = float(second)
        log("embed", done, 100)
    told = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    # 40 were found done at once; 40 more took 30 s, so the last 20 look like 15 s.
    assert [(t["done"], t["left_s"]) for t in told] == [(80, 15.0), (100, 0.0)]
