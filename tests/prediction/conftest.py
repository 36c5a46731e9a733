"""Fixtures shared with the tests of inference."""

from tests.inference.conftest import detector, segmenter, shapes  # noqa: F401 (fixtures)
