"""Tests. A package, so that ``tests.doubles`` is ours and not some other distribution's."""
