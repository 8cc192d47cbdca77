"""Keras on TensorFlow: a ResNet-18 step by step, its example's network and settings for MNIST, a folder's images.

The example's: two 3x3 convolutions without padding, each with a pool, half of the units dropped, Adam, batches of 128,
54,000 images to learn from. At its best with the policy mixed_bfloat16 and many steps in one call; --compile is XLA,
without it Keras is told not to (left alone, it chooses). oneDNN is TensorFlow's default on a processor.
Folders are read by image_dataset_from_directory; at its best with cache() and prefetch(AUTOTUNE).
"""

import os
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import stopwatch
import tensorflow as tf
from keras import layers

BATCH = 128
SHARE_TRAINED_ON = 0.9  # the example's validation_split is 0.1
STEPS_A_CALL = 32
SIDE, FOLDER_BATCH = 224, 32


class Clock(keras.callbacks.Callback):
    """Tells the watch of steps, or of epochs and what they reached."""

    def __init__(self, watch: stopwatch.Stopwatch, test: tuple[np.ndarray, np.ndarray] | None = None) -> None:
        super().__init__()
        self.watch, self.test = watch, test

    def on_train_batch_end(self, batch: int, logs: object = None) -> None:
        if self.test is None:
            self.watch.step()

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self.watch.begin()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.watch.end()
        if self.test is not None:
            x_test, y_test = self.test
            answers = np.concatenate(
                [np.asarray(self.model(x_test[i : i + 1000], training=False)) for i in range(0, len(x_test), 1000)]
            )
            self.watch.reached(float((answers.argmax(1) == y_test).mean()))


def main() -> None:
    arguments = stopwatch.asked(__doc__)
    watch = stopwatch.Stopwatch(arguments)
    if arguments.device != "cpu" and not tf.config.list_physical_devices("GPU"):
        sys.exit("this TensorFlow finds no GPU")
    if arguments.precision == "bf16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    {"steps": steps, "curve": curve, "input": reading}[arguments.do](arguments, watch)


def steps(arguments: stopwatch.Arguments, watch: stopwatch.Stopwatch) -> None:
    images, labels = stopwatch.noise(arguments.batch, arguments.side)
    images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    batches = tf.data.Dataset.from_tensors((images, labels)).cache().repeat(arguments.steps)
    network = resnet18(images.shape[1:])
    network.compile(optimizer=keras.optimizers.SGD(0.01, momentum=0.9), loss=loss(), **compiled(arguments))
    network.fit(batches, epochs=1, verbose=0, callbacks=[Clock(watch)])
    watch.tell(batch=arguments.batch)


def curve(arguments: stopwatch.Arguments, watch: stopwatch.Stopwatch) -> None:
    keras.utils.set_random_seed(arguments.seed)
    x_train, y_train, x_test, y_test = stopwatch.arrays(arguments.data)
    num_train = round(SHARE_TRAINED_ON * len(y_train))
    x_train, x_test = (each.astype("float32") / 255 for each in (x_train[:num_train], x_test))
    batch = arguments.batch or BATCH
    network = example_network(x_train.shape[1:])
    optimizer = keras.optimizers.Adam()
    if arguments.optimizer == "sgd":
        optimizer = keras.optimizers.SGD(0.02, momentum=0.9, nesterov=True)
    calls = {"steps_per_execution": STEPS_A_CALL} if arguments.best else {}
    network.compile(optimizer=optimizer, loss=loss(), **compiled(arguments), **calls)
    clock = Clock(watch, (x_test, y_test))
    network.fit(x_train, y_train[:num_train], batch, arguments.epochs, verbose=0, callbacks=[clock])
    watch.tell(num_train=num_train, num_test=len(y_test), batch=batch)


def reading(arguments: stopwatch.Arguments, watch: stopwatch.Stopwatch) -> None:
    batches = keras.utils.image_dataset_from_directory(
        arguments.data, image_size=(SIDE, SIDE), batch_size=arguments.batch or FOLDER_BATCH, verbose=False
    )
    batches = batches.cache().prefetch(tf.data.AUTOTUNE) if arguments.best else batches
    num_images = 0
    for _ in range(arguments.epochs):
        watch.begin()
        num_images = sum(len(labels) for _, labels in batches)
        watch.end()
    watch.tell(num_images=num_images)


def loss() -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def compiled(arguments: stopwatch.Arguments) -> dict[str, bool]:
    """Nothing where Keras is left alone."""
    if arguments.compile:
        return {"jit_compile": True}
    return {"jit_compile": False} if arguments.best else {}


def example_network(shape: tuple[int, ...]) -> keras.Model:
    """The head computes in fp32 whatever the policy, as its guide asks."""
    return keras.Sequential(
        [
            keras.Input(shape),
            *(layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D()),
            *(layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D()),
            *(layers.Flatten(), layers.Dropout(0.5), layers.Dense(stopwatch.NUM_CLASSES, dtype="float32")),
        ]
    )


def resnet18(shape: tuple[int, ...]) -> keras.Model:
    """He et al. 2015 with torchvision's paddings; Keras itself begins at 50 layers."""
    images = keras.Input(shape)
    maps = layers.ReLU()(normalized_convolution(images, 64, 7, 2))
    maps = layers.MaxPooling2D(3, 2, padding="same")(maps)
    for number, width in enumerate((64, 128, 256, 512)):
        for stride in (1 if number == 0 else 2, 1):
            maps = block(maps, width, stride)
    pooled = layers.GlobalAveragePooling2D()(maps)
    return keras.Model(images, layers.Dense(stopwatch.NUM_CLASSES, dtype="float32")(pooled))


def block(maps: keras.KerasTensor, width: int, stride: int) -> keras.KerasTensor:
    branch = layers.ReLU()(normalized_convolution(maps, width, 3, stride))
    branch = normalized_convolution(branch, width, 3, 1)
    if stride > 1 or maps.shape[-1] != width:
        maps = normalized_convolution(maps, width, 1, stride)
    return layers.ReLU()(layers.Add()([branch, maps]))


def normalized_convolution(maps: keras.KerasTensor, width: int, kernel: int, stride: int) -> keras.KerasTensor:
    return layers.BatchNormalization()(layers.Conv2D(width, kernel, stride, padding="same", use_bias=False)(maps))


if __name__ == "__main__":
    main()
