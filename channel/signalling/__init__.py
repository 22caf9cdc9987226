"""How the two ends of a live link find each other: rooms on a WebSocket server, and the client of one.

    sender  --offer, candidate, bye-->  server  --the same, with `from`-->  receiver      and back, with the answer

    refusals.py  why something is refused      tokens.py    who may enter which room, and as what
    limits.py    how much anybody may ask for  messages.py  what is said, checked
    ice.py       STUN and TURN servers         rooms.py     who is where, without any I/O
    admission.py who is let in                 connection.py  a member's WebSocket
    server.py    aiohttp around the rooms      stats.py     counts for /health and /metrics
    client.py    `RoomClient`, which reconnects              command.py  `semcast signal`

Only `connection`, `server` and `client` import aiohttp (extra `live`); the caller imports those when it needs them.
"""
