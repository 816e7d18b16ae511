"""The home of a tool: pins are for ever, memory goes forward only, typos are named."""

import threading
from pathlib import Path

import pytest

from custody.adapters.home import Home
from custody.errors import ConfigError, IntegrityError
from custody.rules.trust import Seen

D1, D2 = "1" * 64, "2" * 64
DEPLOYMENT = "custody.example.org/prod"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_a_home_that_does_not_exist_is_read_as_empty_and_not_made(home: Home) -> None:
    assert home.profile() is None
    assert home.seen() == Seen()
    assert home.kept_roots() == []
    with pytest.raises(ConfigError, match="does not exist"):
        home.require_profile()
    assert not home.path.exists()


def test_pinning_writes_the_profile_once_and_keeps_what_people_wrote(home: Home) -> None:
    home.pin(DEPLOYMENT)
    text = home.profile_path.read_text()
    home.profile_path.write_text(f'# mine\n{text}person = "alice"\n[broker]\naddress = "b:1"\n')
    home.pin(DEPLOYMENT, D1)
    home.pin(DEPLOYMENT, D1)
    profile = home.require_profile()
    assert (profile.deployment, profile.genesis, profile.person) == (DEPLOYMENT, D1, "alice")
    assert profile.broker is not None
    assert "# mine" in home.profile_path.read_text()
    assert home.profile_path.stat().st_mode & 0o777 == 0o600
    assert home.path.stat().st_mode & 0o777 == 0o700


def test_another_genesis_or_deployment_is_refused(home: Home) -> None:
    home.pin(DEPLOYMENT, D1)
    with pytest.raises(IntegrityError, match="pins another genesis"):
        home.pin(DEPLOYMENT, D2)
    with pytest.raises(ConfigError, match="belongs to deployment"):
        home.pin("custody.example.org/staging", D1)
    assert home.require_profile().genesis == D1


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('deploymnt = "x"', ":1: unknown key 'deploymnt'", "did you mean deployment?"),
        (
            f'deployment = "{DEPLOYMENT}"\n[tls]\nkey = "a"\nqqq = 1',
            ":4: unknown key 'qqq' in [tls]",
            "known keys here",
        ),
        (f'deployment = "{DEPLOYMENT}"\ngenesis = "12"', "required form - at `genesis`", ""),
        (f'deployment = "{DEPLOYMENT}"\nstore = 5', "Expected `str`, got `int` - at `store`", ""),
        ('store = "x"', "missing required field `deployment`", ""),
        ("deployment = ", "Invalid value", ""),
    ],
)
def test_what_is_wrong_in_the_profile_is_said_with_its_place(home: Home, text: str, message: str, hint: str) -> None:
    home.path.mkdir()
    home.profile_path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        home.profile()
    assert str(home.profile_path) in caught.value.message
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_memory_only_goes_forward(home: Home) -> None:
    home.saw_root(0, D1)
    home.remember(Seen(1, 100), D2)
    home.remember(Seen(1, 50), D2)  # another command was slower: no rollback, and nothing is forgotten
    home.remember(Seen(0, 70), D1)
    assert home.seen() == Seen(1, 100)
    with pytest.raises(IntegrityError, match="rollback: a trust root of epoch 0, but epoch 1 was seen here"):
        home.saw_root(0, D1)
    assert home.seen() == Seen(1, 100)


def test_two_roots_of_one_epoch_are_a_fork(home: Home) -> None:
    home.saw_root(1, D1)
    with pytest.raises(IntegrityError, match="two trust roots of epoch 1"):
        home.saw_root(1, D2)
    with pytest.raises(IntegrityError, match="two trust roots of epoch 1"):
        home.remember(Seen(1, 5), D2)


def test_damaged_memory_is_no_empty_memory(home: Home) -> None:
    home.saw_root(1, D1)
    for text in ("", "{}", '{"epoch":"0","root":null,"tree_size":"0"} ', "x" * 5000):
        (home.path / "seen.json").write_text(text)
        with pytest.raises((IntegrityError, ConfigError)):
            home.seen()


def test_commands_at_once_do_not_make_each_other_forget(home: Home) -> None:
    threads = [threading.Thread(target=home.remember, args=(Seen(0, size), D1)) for size in range(1, 21)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert home.seen() == Seen(0, 20)


def test_kept_roots_come_in_the_order_of_epochs(home: Home) -> None:
    for epoch in (10, 9, 0):
        home.keep_root(epoch, f"{epoch}".encode())
    (home.path / "roots/notes.json").write_text("mine")
    assert [path.name for path in home.kept_roots()] == ["0.json", "9.json", "10.json"]


def test_settings_are_relative_to_the_home(home: Home) -> None:
    assert home.resolve("a/b") == home.path / "a/b"
    assert home.resolve("/etc/x") == Path("/etc/x")
    assert home.resolve("~/x") == Path.home() / "x"
