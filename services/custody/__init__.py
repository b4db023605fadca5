"""What every role does with goods, written once: holdings and their rules, events, advice, verdicts, the verbs."""
