"""The rules that policies are composed of, one module for each subject."""
