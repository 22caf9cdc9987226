"""What both ends must agree on: values, bytes, the closed loop. Imports no other room."""
