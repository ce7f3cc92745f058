"""Variants of problems: made by rule, by a model or read from files, each checked, and held against right traces."""
