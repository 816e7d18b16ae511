import base64

import pytest

from custody.errors import FormatError, IntegrityError
from custody.tlog.checkpoint import EMPTY_ROOT, Checkpoint

_TEXT = b"example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"


def test_the_example_of_the_specification_parses_and_encodes() -> None:
    head = Checkpoint.parse(_TEXT)
    assert (head.origin, head.size) == ("example.com/behind-the-sofa", 20852163)
    assert base64.b64encode(head.root) == b"CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I="
    assert head.encode() == _TEXT


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"20852163", b"020852163"),
        (b"20852163", b"+20852163"),
        (b"20852163", b"-1"),
        (b"20852163", b"20_852"),
        (b"20852163", b" 20852163"),
        (b"20852163", b"20852163 "),
        (b"20852163", "\uff11\uff12".encode()),
        (b"20852163", "\u0661".encode()),
        (b"20852163", b""),
        (b"20852163", b"9223372036854775808"),
        (b"20852163", b"1" * 5000),
        (b"20852163", b"0x10"),
        (b"20852163", b"1e3"),
        (b"xq2I=\n", b"xq2J=\n"),
        (b"xq2I=\n", b"xq2I\n"),
        (b"xq2I=\n", b"xq2I=\nextension\n"),
        (b"xq2I=\n", b"xq2I=\n\n"),
        (b"xq2I=\n", b"xq2I="),
        (b"xq2I=\n", b"xq2I=\r\n"),
        (b"CsUYapGG", b""),
        (b"CsUYapGG", b"CsUYapGGAAAA"),
        (b"example.com/behind-the-sofa", b""),
        (b"example.com/behind-the-sofa", b"behind the sofa"),
        (b"example.com/behind-the-sofa", b"a+b"),
        (b"example.com/behind-the-sofa", b"a\xff"),
        (b"example.com/behind-the-sofa", b"a\x00"),
    ],
)
def test_another_spelling_is_refused(old: bytes, new: bytes) -> None:
    with pytest.raises(FormatError):
        Checkpoint.parse(_TEXT.replace(old, new))


def test_the_largest_size_is_accepted() -> None:
    assert Checkpoint.parse(_TEXT.replace(b"20852163", b"9223372036854775807")).size == 2**63 - 1


def test_values_that_no_checkpoint_can_state_are_refused() -> None:
    for origin, size, root in (
        ("o", -1, bytes(32)),
        ("o", 1 << 63, bytes(32)),
        ("o", 0, bytes(31)),
        ("", 0, bytes(32)),
    ):
        with pytest.raises(FormatError):
            Checkpoint(origin, size, root)


def test_an_empty_tree_has_one_root() -> None:
    Checkpoint("o", 0, EMPTY_ROOT).require_sound_root()
    with pytest.raises(IntegrityError, match="empty tree"):
        Checkpoint("o", 0, bytes(32)).require_sound_root()
