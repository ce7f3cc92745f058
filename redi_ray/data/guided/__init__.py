"""Answers that grow step by step, of which those go on that a judge or a reward model finds best."""
