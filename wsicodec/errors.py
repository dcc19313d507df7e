"""Everything that wsicodec raises on purpose.

    WsiCodecError (ValueError)
    ├── SlideError                 the source cannot be read as a slide
    │   └── MppError               its resolution is missing or not believable
    ├── BitstreamError             a payload is damaged, foreign or from a later version
    ├── StoreError                 a store is damaged, incomplete or not one of ours
    │   └── StoreExistsError       something already stands where a store should be written
    ├── BundleError                a model bundle is missing, damaged or not the one that is needed
    ├── ConfigError                an option or a configuration value that cannot be
    └── GeneratedPixelsError       pixels would have to be invented and the reader has refused that

Every message says what was expected, what came, and what to do.
"""


class WsiCodecError(ValueError):
    """Base of all errors that wsicodec raises on purpose."""


class SlideError(WsiCodecError):
    """The source cannot be read as a slide."""


class MppError(SlideError):
    """The micrometres per pixel are missing or not believable."""


class BitstreamError(WsiCodecError):
    """A payload is damaged, foreign, or written by a later version."""


class StoreError(WsiCodecError):
    """A store is damaged, incomplete, or not one of ours."""


class StoreExistsError(StoreError):
    """Something already stands where a store should be written."""


class BundleError(WsiCodecError):
    """A model bundle is missing, damaged, or not the one that is needed."""


class ConfigError(WsiCodecError):
    """An option or a configuration value that cannot be."""


class GeneratedPixelsError(WsiCodecError):
    """Pixels would have to be generated, and the reader has refused generated ones."""
