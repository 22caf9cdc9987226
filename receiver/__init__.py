"""The receiving end: datagrams in, pictures out. Imports only `common`."""
