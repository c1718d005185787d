"""Changes that serve at once, as a user and a packing line meet them (fake embedder)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from anomaly import Inspector, cli, import_source, rebuild, update_gallery, withdraw
from anomaly.nulls import known_nulls
from anomaly.profile import STEP, profile_fingerprint, read_profile
from anomaly.schema import as_json
from embeddings import fake_embedder
from gallery import (
    Gallery,
    GateResult,
    check,
    delta,
    durable,
    list_builds,
    open_catalog,
    read_current,
)
from gallery.errors import GateFailed, NoDelta
from gallery.gates import default_gates

Amiss = Callable[..., tuple[int, str, str]]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The fake embedder in place of any other; grows with every one that is opened."""
    opened: list[int] = []

    def open_fake(backbone: str, *, size_px: int, device: str) -> Any:
        opened.append(size_px)
        return fake_embedder(size_px=size_px)

    monkeypatch.setattr(sys.modules["anomaly.builder"], "open_embedder", open_fake)
    return opened


@pytest.fixture
def amiss(
    fake: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Amiss:
    """Run `amiss WORDS` in this process: (exit code, stdout, stderr)."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["amiss", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err + captured.out
        return int(stop.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def root(amiss: Amiss, write_pictures: Callable[..., Path], tmp_path: Path) -> Path:
    source = write_pictures(tmp_path / "source", products=5, references=3)
    assert amiss("build", source, tmp_path / "gallery")[0] == 0
    return tmp_path / "gallery"


@pytest.fixture
def more(tmp_path: Path, make_png: Callable[[int], bytes]) -> Callable[..., Path]:
    """({product: seeds}) -> a folder of pictures to import."""

    def write(**products: list[int]) -> Path:
        folder = tmp_path / f"more-{len(list(tmp_path.iterdir()))}"
        for product, seeds in products.items():
            (folder / product).mkdir(parents=True)
            for seed in seeds:
                (folder / product / f"{seed}.png").write_bytes(make_png(seed))
        return folder

    return write


def learned(root: Path) -> dict[str, Any]:
    """Profiles and nulls of what serves."""
    with Gallery.open(root) as gallery:
        records = {name: gallery.extra(name, STEP) for name in gallery.product_ids()}
        nulls = known_nulls(gallery, step=profile_fingerprint())
    found: dict[str, Any] = {n: read_profile(r) for n, r in records.items() if r is not None}
    assert len(found) == len(records)
    found["priors"] = dict(nulls.priors)
    found["pooled"] = {
        (kind, count): scores.scores.tolist()
        for kind, by_count in nulls.pooled.items()
        for count, scores in by_count.items()
    }
    assert found["pooled"]
    return found


def said(results: Any) -> list[dict[str, Any]]:
    """Inspections without what names the build or the time."""
    own = ("inspection_id", "build", "delta", "catalog_seq", "timings_ms")
    return [{k: v for k, v in as_json(r).items() if k not in own} for r in results]


def test_profiles_nulls_and_verdicts_are_those_of_a_rebuild(
    root: Path, more: Any, make_picture: Any, tmp_path: Path
) -> None:
    import_source(more(**{"product-00": [50], "newcomer": [60, 61, 62]}), root)
    withdraw(root, "product-01", "00.png", deed="quarantine", why="torn")
    withdraw(root, "product-02", deed="remove", why="sold out")
    assert update_gallery(root).published
    for full in (False, True):
        copy = Path(shutil.copytree(root, tmp_path / f"rebuilt-{full}"))
        assert rebuild(copy, full=full, gates=default_gates(most_lost=1.0)).published
        assert learned(copy) == learned(root)
        images = [make_picture(seed) for seed in (0, 50, 60, 1001, 4242)]
        with Inspector.open(copy) as one, Inspector.open(root) as other:
            for product in (None, "product-00", "newcomer", "product-01", "product-02"):
                found = [i.inspect_many(images, product_id=product) for i in (one, other)]
                assert said(found[0]) == said(found[1])


def test_an_inspector_follows_and_ends_on_what_it_began_with(
    root: Path, more: Any, make_picture: Any
) -> None:
    image = make_picture(60)
    with Inspector.open(root) as inspector:
        before = inspector.inspect(image, product_id="newcomer")
        assert before.reason.code == "not_in_gallery"
        import_source(more(newcomer=[60, 61]), root)
        with inspector._serving() as under_way:
            report = update_gallery(root)
            after = inspector.inspect(image, product_id="newcomer")
            assert after.verdict != "unknown_product"
            assert (after.build, after.delta) == (before.build, report.delta_id)
            assert before.delta is None
            assert "newcomer" not in under_way.gallery
            assert len(under_way.profile("product-00").left_out) == 3
        withdraw(root, "product-00", "00.png", deed="remove", why="torn")
        with inspector._serving() as serving:
            assert len(serving.profile("product-00").left_out) == 2
        withdraw(root, "newcomer", deed="remove", why="a mistake")
        gone = inspector.inspect(image, product_id="newcomer")
        assert gone.reason.code == "not_in_gallery"
        assert gone.inspection_id not in (before.inspection_id, after.inspection_id)


def test_a_whole_product_is_removed_without_an_embedder(root: Path, fake: list[int]) -> None:
    fake.clear()
    done = withdraw(root, "product-03", deed="remove", why="sold out")
    assert done.served is not None
    assert (len(done.rows), done.served.published, done.served.gone) == (3, True, 1)
    assert fake == []
    done = withdraw(root, "product-02", "00.png", deed="remove", why="torn")
    assert done.served is not None
    assert done.served.published
    assert len(fake) == 1  # what the others say of each other is learned anew


NO_TORCH = """
import sys
from pathlib import Path
from anomaly import withdraw
done = withdraw(Path(sys.argv[1]), "product-03", deed="remove", why="sold out")
assert done.served.published
sys.exit("torch" in sys.modules)
"""


def test_removing_a_product_does_not_import_torch(root: Path) -> None:
    command = [sys.executable, "-c", NO_TORCH, str(root)]
    assert subprocess.run(command, cwd=Path(__file__).parent.parent, timeout=120).returncode == 0


def test_the_next_rebuild_folds_a_delta_in_without_embedding(
    root: Path, more: Any, amiss: Amiss
) -> None:
    words = ("--why", "new season", "--by", "mia")
    amiss("add", more(**{"product-00": [50], "newcomer": [60]}), root, *words)
    last = (root / "catalog" / "journal.jsonl").read_text("utf-8").splitlines()[-1]
    assert '"by": "mia"' in last
    assert '"why": "new season"' in last
    with Gallery.open(root) as gallery:
        served = gallery.content_digest
    foreseen = json.loads(amiss("rebuild", root, "--dry-run", "--json")[1])
    assert (foreseen["embed"], foreseen["kept"], foreseen["dropped"]) == (0, 17, 0)
    built = json.loads(amiss("rebuild", root, "--json")[1])
    assert (built["tally"]["embedded"], built["content_digest"]) == (0, served)
    assert read_current(root).delta is None
    assert "served already" in amiss("update", root)[1]


def test_what_was_withdrawn_while_a_build_was_made_does_not_come_back_with_it(
    root: Path, more: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_source(more(newcomer=[60]), root)
    builder = sys.modules["anomaly.builder"]
    publish = builder.publish

    def late(*words: Any, **named: Any) -> Any:
        withdraw(root, "product-04", deed="remove", why="recalled")
        import_source(more(later=[70]), root)
        return publish(*words, **named)

    monkeypatch.setattr(builder, "publish", late)
    assert rebuild(root).published
    with Gallery.open(root) as gallery:
        assert gallery.build_id == list_builds(root)[-1][0]
        assert "newcomer" in gallery
        assert "product-04" not in gallery
        assert "later" not in gallery


def test_what_a_delta_came_to_serve_while_a_build_was_made_serves_on(
    root: Path, more: Any, amiss: Amiss, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_source(more(newcomer=[60], solo=[80]), root)
    withdraw(root, "product-03", deed="quarantine", why="seal unclear")
    builder = sys.modules["anomaly.builder"]
    publish = builder.publish

    def late(*words: Any, **named: Any) -> Any:
        amiss("add", more(later=[70], recalled=[71]), root)
        amiss("replace", root, "solo", "80.png", more(solo=[81]) / "solo" / "81.png")
        withdraw(root, "product-03", deed="release", why="seal looked at")
        withdraw(root, "recalled", deed="quarantine", why="recalled")
        import_source(more(pending=[72]), root)
        return publish(*words, **named)

    monkeypatch.setattr(builder, "publish", late)
    assert rebuild(root, gates=()).published
    with Gallery.open(root) as gallery:
        assert gallery.build_id == list_builds(root)[-1][0]
        counts = {name: len(gallery.references(name)) for name in gallery.product_ids()}
    kept = {f"product-0{n}": 3 for n in range(5)}
    assert counts == {**kept, "newcomer": 1, "solo": 1, "later": 1}


def test_a_rebuild_says_where_it_could_not_keep_up(
    root: Path, more: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reported success, and what had been withdrawn served again."""
    import_source(more(newcomer=[60]), root)
    builder = sys.modules["anomaly.builder"]
    publish = builder.publish

    class Never(delta.CountsAgree):
        def __call__(self, candidate: Any) -> GateResult:
            return GateResult(self.name, False, 1, "0 differences", "for the test")

    def late(*words: Any, **named: Any) -> Any:
        withdraw(root, "product-04", deed="remove", why="recalled")
        monkeypatch.setattr(delta, "CountsAgree", Never)
        return publish(*words, **named)

    monkeypatch.setattr(builder, "publish", late)
    with pytest.raises(GateFailed, match=r"count.*amiss update"):
        rebuild(root)


# The command line


def test_add_serves_at_once_and_says_what_it_did(root: Path, more: Any, amiss: Amiss) -> None:
    source = more(**{"product-00": [50], "newcomer": [60, 61]})
    code, out, err = amiss("add", source, root)
    assert (code, err) == (0, "")
    assert "3 references added" in out
    assert "serves now" in out
    assert "6 products, 18 references (6 in the delta, 3 embedded)" in out
    code, out, _ = amiss("add", source, root, "--json")
    row = json.loads(out)
    assert (code, row["schema"], row["import"]["duplicates"]) == (0, "amiss.add/1", 3)
    assert (row["update"]["schema"], row["update"]["unchanged"]) == ("amiss.update/1", True)
    builds = [json.loads(line) for line in amiss("list", root, "--json")[1].splitlines()]
    assert [b["delta"] for b in builds] == [read_current(root).delta]
    assert f"with delta {read_current(root).delta}" in amiss("list", root)[1]
    names = amiss("list", root, "--products", "--json")[1].splitlines()
    assert {json.loads(n)["product_id"]: json.loads(n)["references"] for n in names} == {
        "product-00": 4, "newcomer": 2, **{f"product-0{n}": 3 for n in (1, 2, 3, 4)},
    }  # fmt: skip
    code, out, _ = amiss("check", root, "--json")
    assert (code, json.loads(out)["deltas"], json.loads(out)["pending"]) == (0, 1, 0)


def test_a_picture_that_cannot_be_read_does_not_stop_the_others(
    root: Path, more: Any, amiss: Amiss
) -> None:
    source = more(newcomer=[60])
    (source / "newcomer" / "bad.png").write_bytes(b"no picture")
    code, out, _ = amiss("add", source, root)
    assert code == 4
    assert "1 embedded" in out


def test_withdrawing_serves_at_once_and_leaves_what_is_pending(
    root: Path, more: Any, amiss: Amiss
) -> None:
    amiss("import", more(newcomer=[60]), root)
    code, out, _ = amiss("quarantine", root, "product-00", "00.png", "--json")
    row = json.loads(out)
    assert (code, len(row["references"]), row["update"]["pending"]) == (0, 1, 1)
    with Gallery.open(root) as gallery:
        assert len(gallery.references("product-00")) == 2
        assert "newcomer" not in gallery
    assert "1 pending" in amiss("release", root, "product-00")[1]
    assert read_current(root).delta is None  # as it was built
    assert amiss("update", root, "--withdrawals")[0] == 0
    assert check(root).pending == 1
    assert "1 embedded" in amiss("update", root)[1]


def test_what_cannot_be_served_is_in_the_catalog_and_said_to_be(
    root: Path, more: Any, amiss: Amiss, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta, "_PATIENCE_S", 0.1)
    with durable.writer_lock(root / "builds"):
        code, _, err = amiss("remove", root, "product-00", "00.png")
        assert (code, "in the catalog, but not served" in err) == (5, True)
        code, out, _ = amiss("add", more(newcomer=[60]), root, "--json")
        row = json.loads(out)
        assert (code, row["import"]["added"], row["error"]["code"]) == (5, 1, "gallery_busy")
    monkeypatch.setattr(sys.modules["anomaly.update"], "update", partial(delta.update, most=2))
    code, out, err = amiss("update", root)
    assert (code, "run `amiss rebuild`" in err) == (1, True)
    assert len(open_catalog(root).rows()) == 15
    assert check(root).pending == 2


def test_a_gallery_that_was_embedded_otherwise_is_refused_with_advice(
    root: Path, more: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_source(more(newcomer=[60]), root)
    monkeypatch.setattr(
        sys.modules["anomaly.builder"],
        "open_embedder",
        lambda backbone, *, size_px, device: fake_embedder(size_px=32),
    )
    with pytest.raises(NoDelta, match="run `amiss rebuild`"):
        update_gallery(root)
    withdraw(root, "product-03", deed="remove", why="needs no embedder")
    with Gallery.open(root) as gallery:
        assert "product-03" not in gallery


def test_without_a_build_the_catalog_is_all(tmp_path: Path, more: Any, amiss: Amiss) -> None:
    root = tmp_path / "unbuilt"
    assert amiss("import", more(newcomer=[60, 61]), root)[0] == 0
    code, out, _ = amiss("remove", root, "newcomer", "60.png")
    assert (code, "`amiss rebuild" in out) == (0, True)
    code, _, err = amiss("update", root)
    assert (code, "amiss rebuild" in err) == (3, True)


def test_rolling_back_takes_the_delta_away(root: Path, more: Any, amiss: Amiss) -> None:
    first = read_current(root).build
    amiss("add", more(newcomer=[60]), root)
    amiss("rebuild", root)
    amiss("remove", root, "product-03")
    code, out, _ = amiss("rollback", root, "--json")
    assert (code, json.loads(out)["build"], json.loads(out)["delta"]) == (0, first, None)
    with Gallery.open(root) as gallery:
        assert "product-03" in gallery
    assert amiss("update", root, "--withdrawals")[0] == 0
    with Gallery.open(root) as gallery:
        assert ("product-03" in gallery, "newcomer" in gallery) == (False, False)
