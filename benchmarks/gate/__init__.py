"""`semcast gate`: did a change make the pictures, the rate, the speed or the memory worse? (docs/gate.md)"""
