"""A chain that was made to be expensive costs next to nothing."""

import secrets

import pytest

from custody.crypto import svid
from custody.errors import IntegrityError
from tests.doubles.actors import HOUR, CertificateAuthority

NOW = 1_800_000_000
SPIFFE = "spiffe://example.org/job/serving"


@pytest.fixture
def above() -> CertificateAuthority:
    return CertificateAuthority(secrets.token_bytes, NOW)


def check(chain: tuple[bytes, ...], root: CertificateAuthority) -> str:
    return svid.check_chain(chain, [root.certificate], "example.org", NOW)


def test_a_chain_in_order_is_followed(above: CertificateAuthority) -> None:
    below = CertificateAuthority(secrets.token_bytes, NOW, "below", above)
    job = below.issue(SPIFFE, NOW - 60, HOUR)
    assert check(job.chain, above) == SPIFFE
    assert check((*job.chain, above.certificate), above) == SPIFFE, "some send the root, too"


def test_certificates_of_one_name_that_may_each_have_signed_each_are_refused(above: CertificateAuthority) -> None:
    many = [CertificateAuthority(secrets.token_bytes, NOW, "below", above) for _ in range(4)]
    job = many[0].issue(SPIFFE, NOW - 60, HOUR)
    assert check(job.chain, above) == SPIFFE
    with pytest.raises(IntegrityError, match="not in order"):
        check((job.chain[0], *(item.certificate for item in many)), above)
    own = CertificateAuthority(secrets.token_bytes, NOW, "X")
    again = CertificateAuthority.beside(own, secrets.token_bytes, NOW)
    liar = own.issue(SPIFFE, NOW - 60, HOUR)
    with pytest.raises(IntegrityError, match="not in order"):
        check((liar.chain[0], own.certificate, again.certificate), above)


def test_an_exponent_as_long_as_its_modulus_is_refused(
    above: CertificateAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check(above.issue(SPIFFE, NOW - 60, HOUR, kind="rsa").chain, above) == SPIFFE
    for name, most in (("_RSA_EXPONENT", 65536), ("_RSA_BITS", 2047)):
        chain = above.issue(SPIFFE, NOW - 60, HOUR, kind="rsa").chain
        with monkeypatch.context() as patch:
            patch.setattr(svid, name, most)
            with pytest.raises(IntegrityError, match="RSA key"):
                check(chain, above)
