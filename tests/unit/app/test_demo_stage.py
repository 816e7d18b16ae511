"""What the demo says of a server that does not start."""

from pathlib import Path

import pytest

from custody.app.demo.stage import Stage
from custody.errors import ConfigError


def test_all_that_it_said_this_time_is_told(tmp_path: Path) -> None:
    (tmp_path / "broker.err").write_text("what it said an hour ago\n")
    told: list[str] = []
    stage = Stage(tmp_path, say=told.append, title=told.append)
    with pytest.raises(ConfigError) as refused:
        stage.serve("broker", "broker", "serve", "--config", "broker/broker.toml")
    stage.stop("broker")
    said = str(refused.value)
    assert said.startswith("the broker did not start: ")
    assert "broker/broker.toml" in said
    assert "hint: " in said
    assert "an hour ago" not in said
    assert not told
