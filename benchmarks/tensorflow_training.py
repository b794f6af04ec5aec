"""One outer iteration of the tutorial in TensorFlow, as a contender, in a Python that has it.

`PYTHON -m benchmarks.tensorflow_training SPEC`. Written anew from the description of the tutorial's
networks, losses and loops ("Autoencoders in Keras", part 6): a compiled graph for the
discriminator's step and one for the step of encoder and decoder, which shares its forward pass
between their losses, as the tutorial's graph does. Noise for images, which lie ready in memory.
"""

from __future__ import annotations

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf

from benchmarks.worker import serve

LATENT, CLASSES, PIXELS = 8, 10, 28 * 28
GENERATOR_STEPS = 3
layers, nn = tf.keras.layers, tf.nn


def active(x):
    return layers.Dropout(0.3)(layers.LeakyReLU(0.3)(x))


def encoder() -> tf.keras.Model:
    image, label = tf.keras.Input((28, 28, 1)), tf.keras.Input((CLASSES,))
    x = active(layers.Conv2D(32, 3, strides=2, padding="same")(image))
    x = active(layers.Conv2D(64, 3, padding="same")(layers.MaxPooling2D(padding="same")(x)))
    x = layers.Concatenate()([layers.Flatten()(x), label])
    x = active(layers.Dense(64)(x))
    return tf.keras.Model([image, label], [layers.Dense(LATENT)(x), layers.Dense(LATENT)(x)])


def decoder() -> tf.keras.Model:
    code, label = tf.keras.Input((LATENT,)), tf.keras.Input((CLASSES,))
    x = active(layers.Dense(7 * 7 * 128)(layers.Concatenate()([code, label])))
    x = layers.UpSampling2D()(layers.Reshape((7, 7, 128))(x))
    x = active(layers.Conv2D(64, 5, padding="same")(x))
    x = active(layers.UpSampling2D()(layers.Conv2D(32, 3, padding="same")(x)))
    image = layers.Conv2D(1, 5, padding="same", activation="sigmoid")(x)
    return tf.keras.Model([code, label], image)


def discriminator() -> tf.keras.Model:
    image, label = tf.keras.Input((28, 28, 1)), tf.keras.Input((CLASSES,))
    x = layers.Conv2D(128, 7, strides=2, padding="same")(image)
    x = active(layers.MaxPooling2D(padding="same")(x))
    maps = layers.UpSampling2D(7)(layers.Reshape((1, 1, CLASSES))(label))
    x = layers.Conv2D(64, 3, padding="same")(layers.Concatenate()([x, maps]))
    x = active(layers.MaxPooling2D(padding="same")(x))
    metric = layers.Conv2D(16, 3, padding="same")(x)
    logit = layers.Dense(1)(layers.Flatten()(active(x)))
    return tf.keras.Model([image, label], [logit, metric])


class Training:
    """Networks, an optimiser for each, and the two graphs."""

    def __init__(self) -> None:
        self.encoder, self.decoder, self.discriminator = encoder(), decoder(), discriminator()
        self.optimisers = [
            tf.keras.optimizers.RMSprop(rate, rho=0.9) for rate in (1e-3, 3e-4, 1e-3)
        ]

    def made(self, x, y):
        """Reconstructions, samples, and the posterior they come from."""
        mean, logvar = self.encoder([x, y], training=True)
        noise = tf.random.normal(tf.shape(mean))
        z = mean + noise * tf.exp(tf.clip_by_value(logvar / 2, -2.0, 2.0))
        rebuilt = self.decoder([z, y], training=True)
        sampled = self.decoder([tf.random.normal(tf.shape(mean)), y], training=True)
        return rebuilt, sampled, mean, tf.clip_by_value(logvar, -2.0, 2.0)

    def judged(self, x, rebuilt, sampled, y):
        """L_GAN, and the metric layer on originals and reconstructions."""
        (real, l_real), (fake, l_fake), (prior, _) = (
            self.discriminator([image, y], training=True) for image in (x, rebuilt, sampled)
        )
        cost = nn.softplus(-real) + 2 * nn.softplus(prior) + nn.softplus(fake)
        return 0.25 * tf.reduce_sum(cost) / PIXELS, l_real, l_fake

    @tf.function
    def discriminator_step(self, x, y):
        with tf.GradientTape() as tape:
            rebuilt, sampled, _, _ = self.made(x, y)
            game, _, _ = self.judged(x, rebuilt, sampled, y)
        weights = self.discriminator.trainable_variables
        self.apply(2, tape.gradient(game, weights), weights)

    @tf.function
    def generator_step(self, x, y):
        with tf.GradientTape(persistent=True) as tape:
            rebuilt, sampled, mean, logvar = self.made(x, y)
            game, l_real, l_fake = self.judged(x, rebuilt, sampled, y)
            entropy = nn.sigmoid_cross_entropy_with_logits(
                labels=tf.stop_gradient(tf.sigmoid(l_real)), logits=l_fake
            )
            similarity = tf.reduce_sum(entropy) / PIXELS
            kl = -0.5 * tf.reduce_sum(1 + logvar - mean**2 - tf.exp(logvar)) / PIXELS
            losses = (similarity + kl, similarity - game)
        for place, (network, loss) in enumerate(zip((self.encoder, self.decoder), losses)):
            weights = network.trainable_variables
            self.apply(place, tape.gradient(loss, weights), weights)

    def apply(self, place, gradients, weights):
        """One optimiser's step; the metric layer has no gradient."""
        pairs = [(g, w) for g, w in zip(gradients, weights) if g is not None]
        self.optimisers[place].apply_gradients(pairs)


def main() -> None:
    spec = json.loads(sys.argv[1])
    tf.config.threading.set_intra_op_parallelism_threads(spec["threads"])
    tf.config.threading.set_inter_op_parallelism_threads(spec["threads"])
    training = Training()
    x = tf.random.uniform((spec["batch"], 28, 28, 1))
    y = tf.one_hot(tf.range(spec["batch"]) % CLASSES, CLASSES)

    def iteration() -> None:
        training.discriminator_step(x, y)
        for _ in range(GENERATOR_STEPS):
            training.generator_step(x, y)

    serve(iteration, 1, about={"version": tf.__version__})


if __name__ == "__main__":
    main()
