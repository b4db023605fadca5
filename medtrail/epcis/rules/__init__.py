"""Rules that EPCIS documents are held to, and the check that reports every finding with its place."""

from medtrail.epcis.rules.catalogue import RULE_OF, RULES
from medtrail.epcis.rules.check import check_document, severity_of
from medtrail.epcis.rules.finding import Finding, Profile, Rule, Severity

__all__ = ["RULES", "RULE_OF", "Finding", "Profile", "Rule", "Severity", "check_document", "severity_of"]
