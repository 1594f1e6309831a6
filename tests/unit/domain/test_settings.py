"""Every setting is documented: it has help, and a row with its default in docs/settings.md."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from lambdad.cli.start import command
from lambdad.domain.settings import ENVIRONMENT_PREFIX, Settings

DOCUMENT = Path(__file__).parents[3] / "docs" / "settings.md"
NAMES = [item.name for item in fields(Settings)]


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_is_documented(name: str) -> None:
    (item,) = (item for item in fields(Settings) if item.name == name)
    option, variable = "--" + name.replace("_", "-"), ENVIRONMENT_PREFIX + name.upper()
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| `{option}` | `{variable}` |")]
    assert len(rows) == 1
    assert item.metadata["help"] in rows[0]
    if item.default not in ("", False):
        shown = f"{item.default:g}" if isinstance(item.default, float) else str(item.default)
        assert f"`{shown}`" in rows[0]


def test_every_setting_is_an_option_and_a_variable() -> None:
    options = {option.name: option for option in command.params}
    assert set(options) == set(NAMES)
    assert [options[name].envvar for name in NAMES] == [ENVIRONMENT_PREFIX + name.upper() for name in NAMES]
