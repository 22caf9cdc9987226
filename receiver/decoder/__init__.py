"""The diffusion decoder: paints a picture from a composition, any time, outside the closed loop.

    Composition --conditions--> Conditions --model x bridge (K steps)--> x_hat --synth--> Painted

`bridge` is the mathematics, `model` the network, `conditions` the way in, `synth` the ladder that the
receiver's pipeline calls. Importing this package is cheap; torch is loaded by the modules inside.
"""
