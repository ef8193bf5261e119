"""The sections of the policy language: one file a section, with its settings, defaults and words."""
