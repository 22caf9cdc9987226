"""The live link: our stream as an RTP payload of its own inside WebRTC.

    WebRtcTransport ─ PeerLink ─┬─ offer_sending / answer_receiving ─ RTCPeerConnection ─ network
     (any thread)     (queues)  │        (event loop, peer.py)
                                └─ payload.py: the one place that knows aiortc's insides

aiortc (extra `live`) is imported when the first far end is added, not before.
"""
