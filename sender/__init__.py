"""The sending end: video in, units out. Imports only `common`."""
