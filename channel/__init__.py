"""What lies between the ends: packets, error correction, simulated and real links. Imports only `common`."""
