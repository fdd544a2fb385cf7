"""A config whose text is formatted once, and again only after it has changed."""

from __future__ import annotations

from mmengine.config import Config

from mstkit.utils.private_attributes import content_of


class FormattedOnce(Config):
    """mmengine's config, but its text is kept: yapf takes most of a second, and a run writes the text several times."""

    @property
    def pretty_text(self) -> str:
        """See mmengine."""
        content = repr(content_of(self))
        before, text = self.__dict__.get('_formatted', (None, ''))
        if before != content:
            text = super().pretty_text
            self.__dict__['_formatted'] = content, text
        return text


def formatted_once(config: Config) -> FormattedOnce:
    """The same config, content shared, as one that formats its text once."""
    made = FormattedOnce.__new__(FormattedOnce)
    made.__dict__.update(config.__dict__)
    return made
