"""The radio link: 5G LDPC, QAM, fading and OFDM (sionna), in virtual time. Needs the extra `radio`."""
