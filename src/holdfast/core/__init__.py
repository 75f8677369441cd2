"""The contract: frozen values and one Driver of at most twelve verbs. No I/O happens here."""
