"""RFC 9591 appendix E.1, FROST(Ed25519, SHA-512): the trusted dealer's shares, 2 of 3."""

from custody.crypto.secret import SecretBytes
from custody.crypto.sharing import Group, Share, all_shares, recover, split

SECRET = bytes.fromhex("7b1c33d3f5291d85de664833beb1ad469f7fb6025a0ec78b3a790c6e13a98304")
COEFFICIENT = bytes.fromhex("178199860edd8c62f5212ee91eff1295d0d670ab4ed4506866bae57e7030b204")
SHARES = [
    bytes.fromhex("929dcc590407aae7d388761cddb0c0db6f5627aea8e217f4a033f2ec83d93509"),
    bytes.fromhex("a91e66e012e4364ac9aaa405fcafd370402d9859f7b6685c07eed76bf409e80d"),
    bytes.fromhex("d3cb090a075eb154e82fdb4b3cb507f110040905468bb9c46da8bdea643a9a02"),
]
GROUPS = [Group(2, 3)]


def test_the_dealers_shares_come_out_of_the_secret_and_the_coefficient() -> None:
    def coefficient(out: memoryview) -> None:
        out[:] = COEFFICIENT + bytes(32)

    with SecretBytes.take(bytearray(SECRET)) as secret:
        shares = split(secret, GROUPS, coefficient)
    assert [bytes(share.view) for share in shares[0]] == SHARES


def test_any_two_published_shares_give_the_secret_and_the_third() -> None:
    for pair in ((1, 2), (1, 3), (2, 3), (3, 1)):
        shares = [Share(0, slot, SecretBytes.take(bytearray(SHARES[slot - 1]))) for slot in pair]
        assert bytes(recover(shares, GROUPS).view) == SECRET
        assert [bytes(share.value.view) for share in all_shares(shares, GROUPS)] == SHARES
