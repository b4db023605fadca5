"""Keyboard layouts: what a computer shows when a scanner types for another layout than the computer's.

A wedge scanner sends keys, not characters: those that spell the text on the layout it is set to, as a rule US English.
A computer with another layout shows what its own keys say. Dead keys (accents) stand for themselves here.
"""

from typing import Final

# Rows from top to bottom, first without shift, then with it; a space where the layout has nothing that we could name.
_LAYOUTS: Final = {
    "US": (
        r"`1234567890-=qwertyuiop[]\asdfghjkl;'zxcvbnm,./",
        r'~!@#$%^&*()_+QWERTYUIOP{}|ASDFGHJKL:"ZXCVBNM<>?',
    ),
    "British": (
        r"`1234567890-=qwertyuiop[]#asdfghjkl;'zxcvbnm,./",
        r'¬!"£$%^&*()_+QWERTYUIOP{}~ASDFGHJKL:@ZXCVBNM<>?',
    ),
    "German": (
        r"^1234567890ß´qwertzuiopü+#asdfghjklöäyxcvbnm,.-",  # noqa: RUF001
        r"°!" + '"' + r"§$%&/()=?`QWERTZUIOPÜ*'ASDFGHJKLÖÄYXCVBNM;:_",
    ),
    "Swiss": (
        r"§1234567890'^qwertzuiopü¨$asdfghjklöäyxcvbnm,.-",
        r"°+" + '"' + r"*ç%&/()=?`QWERTZUIOPè!£ASDFGHJKLéàYXCVBNM;:_",
    ),
    "French": (
        r"²&é" + '"' + r"'(-è_çà)=azertyuiop^$*qsdfghjklmùwxcvbn,;:!",
        r" 1234567890°+AZERTYUIOP¨£µQSDFGHJKLM%WXCVBN?./§",
    ),
    "Belgian": (
        r"²&é" + '"' + r"'(§è!çà)-azertyuiop^$µqsdfghjklmùwxcvbn,;:=",
        r"³1234567890°_AZERTYUIOP¨*£QSDFGHJKLM%WXCVBN?./+",
    ),
    "Spanish": (
        r"º1234567890'¡qwertyuiop`+çasdfghjklñ´zxcvbnm,.-",  # noqa: RUF001
        r"ª!" + '"' + r"·$%&/()=?¿QWERTYUIOP^*ÇASDFGHJKLÑ¨ZXCVBNM;:_",
    ),
    "Italian": (
        r"\1234567890'ìqwertyuiopè+ùasdfghjklòàzxcvbnm,.-",
        r"|!" + '"' + r"£$%&/()=?^QWERTYUIOPé*§ASDFGHJKLç°ZXCVBNM;:_",
    ),
    "Swedish": (
        r"§1234567890+´qwertyuiopå¨'asdfghjklöäzxcvbnm,.-",  # noqa: RUF001
        r"½!" + '"' + r"#¤%&/()=?`QWERTYUIOPÅ^*ASDFGHJKLÖÄZXCVBNM;:_",
    ),
}

_US: Final = "".join(_LAYOUTS["US"])


def _back(meant: str, shown: str) -> dict[int, int]:
    return {ord(came): ord(sent) for sent, came in zip(meant, shown, strict=True) if came != " "}


# Pairs of scanner's and computer's layout, each with what undoes the damage, for str.translate.
REPAIRS: Final[tuple[tuple[str, str, dict[int, int]], ...]] = tuple(
    repair
    for name, rows in _LAYOUTS.items()
    if name != "US"
    for repair in (
        ("US", name, _back(_US, "".join(rows))),
        (name, "US", _back("".join(rows), _US)),
    )
)
