"""Time of an epoch of E3 and E4 in binary8, against its limit: the same matrix products by BLAS alone."""

from pathlib import Path
from time import perf_counter

import click
import numpy as np
from timing import best

from srlib import LogisticRegression, Philox, TwoLayerNetwork, iterates, round_to
from srlib.companion import datasets

MNIST = Path(__file__).parents[1] / "data" / "mnist"


def epoch(problem, x0, replicates, repeats=3):
    """Return the shortest time of a step and that of measuring objective and error."""
    rng = Philox(1, replicates=replicates)
    walk = iterates(problem, x0, stepsize=0.1, steps=repeats + 2, fmt="binary8", update="signed_SR_eps(0.1)", rng=rng)
    next(walk)
    x, times = next(walk), []
    for _ in range(repeats):
        start = perf_counter()
        x = next(walk)
        times.append(perf_counter() - start)
    return min(times), best(lambda: (problem.f(x), problem.error(x)), 2)


def products(rows, pixels, images):
    """Return the time of the two large products, forward and backward, and their floating-point operations."""
    rng = np.random.default_rng(1)
    weights, columns = rng.random((rows, pixels)), rng.random((pixels, images))
    forward, backward, rowwise = np.empty((rows, images)), np.empty((rows, pixels)), np.ascontiguousarray(columns.T)

    def both():
        np.matmul(weights, columns, out=forward)
        np.matmul(forward, rowwise, out=backward)

    return best(both, 3), 4.0 * rows * pixels * images


def roundings(shape, count):
    """Return the time of some stochastic roundings in place."""
    x, rng = np.random.default_rng(1).standard_normal(shape), Philox(1, replicates=shape[0])
    return count * best(lambda: round_to(x, "binary8", "SR", rng, out=x), 3)


def report(name, data, problem, x0, replicates, rows, count):
    """Print an epoch's time and its parts; the arrays rounded `count` times are `rows` by images a replicate."""
    images, pixels = data.train_images.shape
    whole, measuring = epoch(problem, x0, replicates)
    multiplying, flops = products(replicates * rows, pixels, images)
    rounding = roundings((replicates, rows, images), count)
    print(f"{name}: {images} images, {replicates} replicates")
    print(f"  epoch            {whole:7.3f} s  {flops / whole / 1e9:6.1f} GFLOP/s")
    print(f"  matrix products  {multiplying:7.3f} s  {flops / multiplying / 1e9:6.1f} GFLOP/s, the limit")
    print(f"  roundings        {rounding:7.3f} s")
    print(f"  the rest         {max(whole - multiplying - rounding, 0):7.3f} s")
    print(f"  epoch by limit   {whole / multiplying:7.2f}")
    print(f"  (measuring loss and error takes {measuring:.3f} s)")


@click.command()
@click.option("--images", default=60_000, show_default=True, help="Of E3; E4 has the threes and eights.")
@click.option("--replicates", default=20, show_default=True)
def main(images, replicates):
    """Time an epoch with SR in the gradient and signed-SR_eps in the update."""
    data = datasets.subset(datasets.load(MNIST), images)
    parts = data.train_images, data.train_labels, data.test_images, data.test_labels
    problem = LogisticRegression(*parts)
    report("E3, logistic regression", data, problem, np.zeros(problem.shape), replicates, problem.shape[0], 5)
    pair = datasets.select_classes(data, (3, 8))
    network = TwoLayerNetwork(pair.train_images, pair.train_labels, pair.test_images, pair.test_labels)
    report("E4, network", pair, network, network.initial(1), replicates, 100, 3)


if __name__ == "__main__":
    main()
