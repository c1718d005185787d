"""The command line as a user meets it: exit codes, JSON lines, one-line errors, nothing lost."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from block_pictures import save_picture, write_references

from anomaly import cli
from embeddings import fake_embedder

GALLERY_V1 = Path(__file__).parent / "data" / "gallery_v1"


@dataclass(frozen=True)
class Run:
    code: int
    out: str
    err: str

    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]


Amiss = Callable[..., Run]


@pytest.fixture
def amiss(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Amiss:
    """Run `amiss WORDS` in this process, on the fake embedder."""
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
        code = stop.value.code
        return Run(code if isinstance(code, int) else 0, captured.out, captured.err)

    return run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_references(tmp_path / "references")


def test_build_then_every_reading_verb_works_and_speaks_only_json(
    amiss: Amiss, source: Path, tmp_path: Path
) -> None:
    root = tmp_path / "gallery"
    built = amiss("build", source, root, "--json")
    (report,) = built.lines()
    assert built.code == 0
    assert (report["schema"], report["products"], report["references"]) == ("amiss.build/1", 3, 6)
    assert report["published"] is True
    assert report["passed"] is True

    (row,) = amiss("list", root, "--json").lines()
    assert row["current"] is True
    assert row["build"] == report["build_id"]
    products = amiss("list", root, "--products", "--json").lines()
    assert [p["product_id"] for p in products] == ["product 0", "product 1", "product 2"]

    (check,) = amiss("check", root, "--json").lines()
    assert (check["sound"], check["pending"]) == (True, 0)

    query = source / "product 1" / "0.png"
    (found,) = amiss("identify", root, query, "--json").lines()
    assert found["image"] == str(query)
    assert found["known"] is None
    first = found["candidates"][0]  # type: ignore[index]
    assert first["product_id"] == "product 1"
    assert first["score"] == pytest.approx(0, abs=1e-5)
    assert 0 < first["p_value"] < 1  # against impostors of so small a gallery it tells nothing


def test_verbs_also_speak_to_people(amiss: Amiss, source: Path, tmp_path: Path) -> None:
    root = tmp_path / "gallery"
    assert "published" in amiss("build", source, root).out
    assert "yes" in amiss("list", root).out
    assert "product 2" in amiss("list", root, "--products").out
    assert "sound" in amiss("check", root).out
    assert "product 0" in amiss("identify", root, source / "product 0" / "1.png").out
    assert "nothing changed" in amiss("rebuild", root).out


def test_import_then_rebuild_embeds_only_what_is_new(
    amiss: Amiss, source: Path, tmp_path: Path
) -> None:
    root = tmp_path / "gallery"
    amiss("build", source, root)
    save_picture(tmp_path / "more" / "product 1" / "2.png", 99)
    (imported,) = amiss("import", tmp_path / "more", root, "--json").lines()
    assert (imported["added"], imported["duplicates"]) == (1, 0)
    (again,) = amiss("import", tmp_path / "more", root, "--json").lines()
    assert (again["added"], again["duplicates"]) == (0, 1)
    assert amiss("check", root, "--json").lines()[0]["pending"] == 1
    (report,) = amiss("rebuild", root, "--json").lines()
    assert report["tally"]["embedded"] == 1  # type: ignore[index]
    assert amiss("check", root, "--json").lines()[0]["pending"] == 0


def test_an_existing_gallery_is_an_error_that_names_the_verbs(
    amiss: Amiss, source: Path, tmp_path: Path
) -> None:
    root = tmp_path / "gallery"
    amiss("build", source, root)
    before = (root / "CURRENT").read_bytes()
    run = amiss("build", source, root)
    assert run.code == 2
    assert "amiss import" in run.err
    assert "amiss rebuild" in run.err
    assert (root / "CURRENT").read_bytes() == before


def test_unreadable_pictures_are_named_and_the_others_go_on(
    amiss: Amiss, source: Path, tmp_path: Path
) -> None:
    (source / "product 0" / "empty.jpg").write_bytes(b"")
    (source / "product 1" / "text.png").write_text("no picture")
    whole = (source / "product 2" / "0.png").read_bytes()
    (source / "product 2" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (source / "empty product").mkdir()
    run = amiss("build", source, tmp_path / "gallery", "--json")
    assert run.code == 4
    (report,) = run.lines()
    assert (report["references"], report["published"]) == (6, True)
    problems = {p["code"]: p["where"] for p in report["import"]["problems"]}  # type: ignore[index]
    assert set(problems) == {"empty_product", "empty_image", "not_an_image", "truncated_image"}
    assert problems["truncated_image"].endswith("cut.png")


def test_nothing_readable_leaves_no_gallery_behind(amiss: Amiss, tmp_path: Path) -> None:
    (tmp_path / "references" / "p").mkdir(parents=True)
    (tmp_path / "references" / "p" / "bad.png").write_bytes(b"bad")
    run = amiss("build", tmp_path / "references", tmp_path / "gallery")
    assert run.code == 2
    assert "bad.png" in run.err
    assert not (tmp_path / "gallery").exists()


def test_identify_reports_an_unreadable_query_and_goes_on(
    amiss: Amiss, source: Path, tmp_path: Path
) -> None:
    root = tmp_path / "gallery"
    amiss("build", source, root)
    good, bad = source / "product 2" / "1.png", tmp_path / "absent.png"
    run = amiss("identify", root, bad, good, "--json")
    assert run.code == 4
    first, second = run.lines()
    assert first["error"]["code"] == "image_error"  # type: ignore[index]
    assert second["candidates"][0]["product_id"] == "product 2"  # type: ignore[index]


def test_a_failed_gate_exits_1_and_leaves_current_alone(
    amiss: Amiss, source: Path, tmp_path: Path
) -> None:
    from gallery import open_catalog

    root = tmp_path / "gallery"
    amiss("build", source, root)
    before = (root / "CURRENT").read_bytes()
    catalog = open_catalog(root)
    for row in catalog.rows()[:4]:
        catalog.withdraw(row.product_id, row.reference_id, deed="remove", why="test")
    run = amiss("rebuild", root)
    assert run.code == 1
    assert "count_delta" in run.err
    assert (root / "CURRENT").read_bytes() == before
    assert "count_delta failed" in amiss("list", root).out


@pytest.mark.parametrize("verb", ["list", "check", "identify", "rebuild"])
@pytest.mark.parametrize("what", ["absent", "empty", "file", "other"])
def test_a_folder_that_is_no_gallery_exits_3_in_one_line(
    amiss: Amiss, tmp_path: Path, verb: str, what: str
) -> None:
    place = tmp_path / "place"
    if what == "file":
        place.write_text("x")
    elif what != "absent":
        place.mkdir()
    if what == "other":
        (place / "notes.txt").write_text("x")
    words = [verb, place, *([save_picture(tmp_path / "q.png", 1)] if verb == "identify" else [])]
    run = amiss(*words)
    assert run.code == 3
    assert "not a gallery" in run.err
    assert len(run.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "name", ["manifest.json", "index.faiss", "data.mdb", "vectors.npy", "CURRENT"]
)
def test_a_damaged_gallery_never_answers(amiss: Amiss, tmp_path: Path, name: str) -> None:
    root = Path(shutil.copytree(GALLERY_V1, tmp_path / "gallery"))
    (path,) = [p for p in root.rglob(name) if "shards" not in p.parts or name != "manifest.json"]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x40
    path.write_bytes(bytes(data))
    run = amiss("check", root)
    assert run.code == 3
    assert name in run.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["build"], "Missing argument"),
        (["build", "nowhere", "gallery"], "no such file or folder"),
        (["build", ".", "gallery", "--size", "7"], "size_px"),
        (["build", ".", "gallery", "--device", "tpu"], "device"),
        (["build", ".", "gallery", "--threads", "0"], "threads"),
        (["build", ".", "gallery", "--config", "absent.toml"], "absent.toml"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_usage_errors_exit_2_and_say_what_is_wrong(
    amiss: Amiss, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    run = amiss(*words)
    assert run.code == 2
    assert expected in run.err


def test_settings_come_from_a_file_and_the_command_line_wins(
    amiss: Amiss, source: Path, tmp_path: Path
) -> None:
    config = tmp_path / "amiss.toml"
    config.write_text('size_px = 96\nbackbone = "fake"\n')
    amiss("build", source, tmp_path / "a", "--config", config)
    amiss("build", source, tmp_path / "b", "--config", config, "--size", "128")
    from gallery import Gallery

    for name, size in (("a", 96), ("b", 128)):
        with Gallery.open(tmp_path / name) as gallery:
            assert gallery.manifest.config == {"backbone": "fake", "size_px": size}
    config.write_text("sizze = 96\n")
    run = amiss("build", source, tmp_path / "c", "--config", config)
    assert run.code == 2
    assert "sizze" in run.err


def test_a_bug_ends_as_one_line_too(
    amiss: Amiss, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(path: Path) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(cli, "check", broken)
    run = amiss("check", tmp_path)
    assert run.code == 3
    assert "planted" in run.err
    assert "AMISS_TRACEBACK" in run.err


def test_doctor_finds_this_machine_fit(amiss: Amiss) -> None:
    run = amiss("doctor", "--json")
    found = {line["name"]: line for line in run.lines()}
    assert run.code == 0, run.out
    assert found["weights"]["level"] == "ok"
    assert "56 x 56 patches" in str(found["embedding"]["message"])


def test_doctor_reports_clashing_and_missing_packages(
    amiss: Amiss, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anomaly import doctor

    real = doctor._version
    planted = {"opencv-python": "4.10", "faiss-cpu": None, "lmdb": None}
    monkeypatch.setattr(doctor, "_version", lambda name: planted.get(name, real(name))
                        if name in planted else real(name))  # fmt: skip
    run = amiss("doctor", "--json")
    found = {line["name"]: line for line in run.lines()}
    assert run.code == 3
    assert found["cv2"]["level"] == "warning"
    assert found["faiss"]["level"] == "error"
    assert "pip install lmdb" in str(found["lmdb"]["message"])


def test_a_build_cut_short_goes_on_with_the_settings_it_was_given(
    amiss: Amiss, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gallery import Gallery

    module = sys.modules["anomaly.builder"]
    real = module.build

    def dies(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "build", dies)
    assert amiss("build", source, tmp_path / "g", "--size", "96", "--backbone", "fake").code == 130
    monkeypatch.setattr(module, "build", real)
    assert amiss("rebuild", tmp_path / "g").code == 0
    with Gallery.open(tmp_path / "g") as gallery:
        assert gallery.manifest.config == {"backbone": "fake", "size_px": 96}
