"""Text of models and programs for a terminal: what would control it is shown instead of obeyed."""

import re
import unicodedata

# Line breaks and tabs are layout. Everything else of these categories moves the cursor, changes colours, hides text or
# reverses its direction: controls, formats, surrogates (which cannot be printed at all) and line separators.
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_SUSPECT = re.compile(r"[^\n\t -~]")
_PICTURES, _DELETE = 0x2400, 0x7F


def visible(text: str) -> str:
    """The same text with ESC as `␛`, other ASCII controls as their pictures, and the rest as `<U+202E>`."""
    return _SUSPECT.sub(_show, text)


def _show(match: re.Match[str]) -> str:
    character = match.group()
    if unicodedata.category(character) not in _UNSEEN:
        return character
    code = ord(character)
    if code < 0x20:
        return chr(_PICTURES + code)
    return "␡" if code == _DELETE else f"<U+{code:04X}>"
