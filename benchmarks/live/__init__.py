"""The live ends: one sender, any number of receivers, over WebRTC or plain UDP."""
