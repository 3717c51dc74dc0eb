"""Models on which the rules of a push are tested: who is who, who wins, what goes."""
