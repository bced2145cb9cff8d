"""What the tests of whole modules share, whose environments are really made."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def share_downloads(home: Path) -> None:
    """Let a new home use what uv has downloaded for earlier tests."""
    cache = REPOSITORY / ".cache" / "external_modules" / "uv"
    cache.mkdir(parents=True, exist_ok=True)
    (home / "cache").symlink_to(cache)


def assert_the_scripts_differ_in_their_signatures_only(old: Path, new: Path) -> None:
    """Compare the node scripts for v6.20 and v7.00."""
    script, expected = old.read_text(), new.read_text()
    for without, with_par in [
        ("v6.20", "v7.00"),
        ("output(inp, out)", "output(inp, out, par)"),
        ("build(loops)", "build(par, loops)"),
        ("run(inp, out, ctx)", "run(inp, out, par, ctx)"),
    ]:
        assert script.count(without) == 1
        script = script.replace(without, with_par)
    assert script == expected
