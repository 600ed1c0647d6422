"""The keys of the file of printed cells in words."""

import re

FORMULAS = {
    "F_NAT": "natural accuracy",
    "F_RA": "robust accuracy",
    "F_RI": "robust inaccuracy",
    "F_PART_RA": "robust and right",
    "F_PART_RNA": "robust and wrong",
    "F_PART_NRA": "right, not robust",
    "F_PART_NRNA": "wrong, not robust",
    "F_SEL1": "selected at ε",
    "F_PREC1": "right among those selected at ε",
    "F_SEL2": "selected at 2ε",
    "F_PREC2": "robust and right among those selected at 2ε",
    "F_CERT_NAT": "natural accuracy, smoothed",
    "F_CERT_RA": "certified and right",
    "F_CERT_RI": "certified and wrong",
    "F_CERT_SEL": "certified",
    "F_CERT_PREC": "right among the certified",
    "F_COMP2_NAT": "natural accuracy of the composition",
    "F_COMP2_ROB": "robust accuracy of the composition",
}
STATES = {
    "match": "agrees",
    "mismatch": "differs",
    "missing-log": "log missing",
    "not-from-logs": "not in the logs",
}
ATTACKS = {
    "apgd": "APGD",
    "apgd-conf": "APGD on the confidence",
    "pgd": "PGD",
    "smoothing": "randomized smoothing",
}
METHODS = {"RI": "robustness indicator", "SN": "selection network", "SR": "softmax response"}
_TOKENS = {
    "R_nat": "natural accuracy",
    "R_rob": "robust accuracy",
    "R_acc": "robust accuracy of the selected",
    "R_sel": "robust selection",
    "D_ra": "robust and right",
    "D_rna": "robust and wrong",
    "D_nra": "right, not robust",
    "D_nrna": "wrong, not robust",
    "d_nat": "gain in natural accuracy",
    "d_rob": "gain in robust accuracy",
    "L_ERA": "ERA",
    "L_ERA+AA": "ERA with AutoAugment",
    "L_DGA": "DGA",
    "L_DGA+AA": "DGA with AutoAugment",
    "L_CRA": "CRA",
    "L_noise": "Gaussian noise",
    "ERA+AA": "ERA with AutoAugment",
    "TRADES+AA": "TRADES with AutoAugment",
    "ERA-DGA": "ERA minus DGA",
    "(ERA-TRADES)": "(ERA minus TRADES)",
    "AA": "with AutoAugment",
    "(AA)": "with AutoAugment",
    "no-aug": "without augmentation",
    "comp": "composition",
    "ra": "robust accuracy",
    "ri": "robust inaccuracy",
    "nat": "natural accuracy",
    "rob": "robust accuracy",
    "sel": "selection",
    "prec": "accuracy of the selected",
    "acc": "accuracy",
    "inacc": "inaccuracy",
    "d": "difference in",
    "cert": "certified",
}


def formula_words(formula: str) -> str:
    """What a cell is, in words; a formula that is not known stays as it is.

    >>> formula_words("F_RA"), formula_words("F_SEL1 diff")
    ('robust accuracy', 'selected at ε, difference')
    >>> formula_words("F_COMP2_NAT-F_NAT(core)")
    "natural accuracy of the composition, minus the core's"
    """
    first, _, rest = formula.partition(" ")
    composed, _, core = first.partition("-")
    said = FORMULAS.get(composed, composed)
    if core.endswith("(core)"):
        said += ", minus the core's"
    return {"": said, "diff": f"{said}, difference"}.get(rest, _count(formula))


def _count(formula: str) -> str:
    found = re.fullmatch(r"count of (\S+?)\s*>\s*0 in T(\S+)", formula)
    if found is None:
        return formula
    return f"share of Table {found[2]} with a {_TOKENS.get(found[1], found[1])}"


def place_words(text: str) -> str:
    """A row or column heading of the printed cells in words.

    >>> place_words("B_1/255 D_rna"), place_words("Carmon 2/255 ERA+AA ri")
    ('ε = 1/255, robust and wrong', 'Carmon 2/255 ERA with AutoAugment robust inaccuracy')
    >>> place_words("sec7.1 cert"), place_words("B2_0.12 sel")
    ('section 7.1 certified', 'ε₂ = 0.12, selection')
    """
    parts = []
    for token in text.split():
        if ball := re.fullmatch(r"B(2?)_(\S+)", token):
            parts.append(f"ε{'₂' if ball[1] else ''} = {ball[2]},")
        elif section := re.fullmatch(r"sec([\d.]+)", token):
            parts.append(f"section {section[1]}")
        elif re.fullmatch(r"[A-Z]\.\d+", token):
            parts.append(f"appendix {token}")
        else:
            parts.append(_TOKENS.get(token, token))
    return " ".join(parts).rstrip(",")


__all__ = ["ATTACKS", "FORMULAS", "METHODS", "STATES", "formula_words", "place_words"]
