"""The version is written once and seen everywhere."""

from importlib.metadata import version

from rootbound._version import __version__


def test_distribution_and_package_agree_on_the_version() -> None:
    assert version("rootbound") == __version__
