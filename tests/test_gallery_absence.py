"""A product that does not serve is told why: withdrawn, not served yet, a slip in its name."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from anomaly import cli
from embeddings import fake_embedder
from gallery import Gallery, open_catalog
from gallery.absence import why_absent
from gallery.errors import SourceError, UnknownProduct
from gallery.naming import did_you_mean

Said = tuple[int, str]


@pytest.fixture
def amiss(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Said]:
    """Run `amiss WORDS` in this process, on the fake embedder: (exit code, stdout)."""
    monkeypatch.setattr(
        sys.modules["anomaly.builder"],
        "open_embedder",
        lambda backbone, *, size_px, device: fake_embedder(size_px=size_px),
    )

    def run(*words: str | Path) -> Said:
        monkeypatch.setattr(sys, "argv", ["amiss", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return int(stop.value.code or 0), capsys.readouterr().out

    return run


@pytest.fixture
def root(amiss: Callable[..., Said], write_pictures: Callable[..., Path], tmp_path: Path) -> Path:
    source = write_pictures(tmp_path / "source", products=4)
    assert amiss("build", source, tmp_path / "gallery")[0] == 0
    return tmp_path / "gallery"


@pytest.mark.parametrize(
    ("name", "near"),
    [("carton_tpo", "carton_top"), ("Carton_Top", "carton_top"), ("oat milk 1l", "oat milk 1 l"),
     ("razor", None), ("", None)],
)  # fmt: skip
def test_a_slip_names_the_nearest(name: str, near: str | None) -> None:
    said = did_you_mean(name, ["carton_top", "carton_side_b", "oat milk 1 l"])
    assert said == ("" if near is None else f"; did you mean {near!r}?")


def test_a_withdrawn_product_is_no_stranger(amiss: Callable[..., Said], root: Path) -> None:
    picture = next((root.parent / "source" / "product-00").iterdir())
    for deed, told in (
        ("quarantine", "all its references, 2, are quarantined (`amiss release`"),
        ("remove", "it was removed, and its references with it"),
    ):
        code, said = amiss(deed, root, "product-00")
        assert (code, "product-00 has no reference left that may serve" in said) == (0, True)
        for views in ((), ("--views", "1")):
            words = ("inspect", root, picture, "--product", "product-00", *views)
            text = f"'product-00' is not among the gallery's 3 products; {told}"
            assert text in amiss(*words)[1]
            said = amiss(*words, "--json")[1]
            assert text in json.loads(said)["reason"]["text"]
    assert amiss("quarantine", root, "product-01", "00.png")[1].count("no reference left") == 0
    said = amiss("quarantine", root, "product-01", "--json")[1]
    assert json.loads(said)["left"] == 0


def test_a_slip_in_a_claim_names_the_nearest(amiss: Callable[..., Said], root: Path) -> None:
    picture = next((root.parent / "source" / "product-00").iterdir())
    said = amiss("inspect", root, picture, "--product", "Product-2")[1]
    assert "products; did you mean 'product-02'?" in said
    with Gallery.open(root) as gallery, pytest.raises(UnknownProduct, match="did you mean"):
        gallery.stored("product_00")
    with pytest.raises(SourceError, match="did you mean 'product-03'"):
        open_catalog(root).withdraw("produkt-03", None, deed="remove", why="")


def test_what_the_catalog_holds_beyond_the_build_is_said_to_wait(
    amiss: Callable[..., Said], root: Path, write_pictures: Callable[..., Path], tmp_path: Path
) -> None:
    assert amiss("import", write_pictures(tmp_path / "more", products=5), root)[0] == 0
    assert "`amiss update` or" in why_absent(root, "product-04", served=["product-00"])
    shutil.rmtree(root / "catalog")
    assert why_absent(root, "product-04", served=["product-00"]) == "; did you mean 'product-00'?"
    assert why_absent(root, "no\nID", served=["carton"]) == ""


def test_among_very_many_names_only_letter_case_is_forgiven() -> None:
    """A slip would take seconds to find, for each picture of a batch."""
    names = [f"product-{number:05d}" for number in range(5001)]
    assert did_you_mean("PRODUCT-00007", names) == "; did you mean 'product-00007'?"
    assert did_you_mean("prodct-00007", names) == ""
    assert did_you_mean("prodct-00007", names[:5000]) != ""
