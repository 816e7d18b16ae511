"""Where a file lies, over the wire: a folder or two URLs, and only headers that a GET of ciphertext may need."""

import pytest

from custody.errors import FormatError
from custody.ports import Presigned
from custody.wire.messages import place_from, place_to
from custody.wire.v1 import broker_pb2 as pb

URL = Presigned("https://store.example.org/a", {"If-Match": '"etag"'}, 1_800_000_000)


def test_a_place_is_what_it_was() -> None:
    assert place_from(place_to("/mnt/weights", None, None)).folder == "/mnt/weights"
    reply = place_from(place_to("", URL, URL))
    assert (reply.folder, reply.ciphertext, reply.digests) == ("", URL, URL)


@pytest.mark.parametrize(
    "message",
    [pb.Place(), place_to("/mnt", URL, URL), place_to("", URL, None), place_to("", None, URL)],
    ids=["nothing", "both", "no digests", "no ciphertext"],
)
def test_half_a_place_is_refused(message: pb.Place) -> None:
    with pytest.raises(FormatError, match="neither a folder nor URLs, or both"):
        place_from(message)


@pytest.mark.parametrize(
    "header",
    [
        {"Host": "metadata.example.org"},
        {"Metadata-Flavor": "Google"},
        {"Authorization": "Bearer x"},
        {"Cookie": "x"},
        {"If-Match": "x\r\nHost: y"},
        {"If-Match": "\u00e9"},
        {"x-amz-\n": "y"},
        {"Range": "bytes=0-"},
    ],
    ids=lambda header: repr(next(iter(header)))[1:-1].replace("\\n", "newline"),
)
def test_a_broker_cannot_make_a_job_send_any_header_it_likes(header: dict[str, str]) -> None:
    lying = Presigned("https://store.example.org/a", header, 1)
    with pytest.raises(FormatError, match="a header that it may not have"):
        place_from(place_to("", URL, lying))
