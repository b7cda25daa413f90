"""How far a sentence encoder is from another one, and how well its vectors do a job.

A small error of the cosine need not move a neighbour, and a moved neighbour need not cost an
answer; the three measures here are in the order in which a user comes to feel them.
"""

import numpy as np

from sizewise.validation import positive, whole

STEPS = 500  # of L-BFGS at most; unit vectors take some dozens


def cosine(vectors: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """The cosine between each vector and its reference: (n, d), (n, d) to (n,).

    Raises ValueError for a vector of length 0 or one that is not finite.
    """
    return (_unit(vectors) * _unit(reference)).sum(1)


def recall(vectors: np.ndarray, reference: np.ndarray, k: int = 10) -> np.ndarray:
    """For each text, the share of its ``k`` nearest by the reference that these vectors find
    among their own ``k`` nearest: (n,).

    Nearest by cosine, the text itself left out; among equals the earlier one. Both (n, d), the
    widths may differ. Raises ValueError unless k is under n.
    """
    k = whole("k", k, len(vectors) - 1)
    result, neighbours = _nearest(vectors, k), _nearest(reference, k)  # (n, k) each
    return (result[:, :, None] == neighbours[:, None, :]).any(1).mean(1)


def probe(train, train_labels, test, test_labels, *, strength: float = 1.0):
    """A data frame with one row a test text: ``item``, ``label``, ``answer``, ``right`` (0 or 1).

    Logistic regression on the vectors (n, d), labels (n,) from 0: cross entropy summed over the
    training texts, plus half the squared weights over ``strength``; the bias is free. For
    intervals give it to `bootstrap.ratio` or `bootstrap.paired` with ``"right", by="item"``; they
    hold for other test texts, not for other training texts. Raises ValueError for a single
    label, and if the fit does not converge.
    """
    import pandas
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    train, test = np.asarray(train, float), np.asarray(test, float)
    labels, strength = np.asarray(train_labels), positive("the strength", strength)
    classes = int(labels.max()) + 1
    if len(set(labels.tolist())) < 2 or labels.min() < 0:
        raise ValueError(f"a probe needs two labels or more, from 0; got {sorted(set(labels))}")
    wide = np.hstack([train, np.ones((len(train), 1))])  # (n, d + 1)
    right = np.eye(classes)[labels]  # (n, classes)
    decay = np.r_[np.full(train.shape[1], 1 / strength), 0][:, None]  # (d + 1, 1)

    def loss(flat):
        weights = flat.reshape(-1, classes)  # (d + 1, classes)
        log_p = log_softmax(wide @ weights, axis=1)
        slope = wide.T @ (np.exp(log_p) - right) + decay * weights
        return -(log_p * right).sum() + (decay * weights**2).sum() / 2, slope.ravel()

    start = np.zeros(wide.shape[1] * classes)
    result = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    if not result.success:
        raise ValueError(f"the probe did not converge: {result.message}")
    scores = np.hstack([test, np.ones((len(test), 1))]) @ result.x.reshape(-1, classes)
    answers, test_labels = scores.argmax(1), np.asarray(test_labels)
    return pandas.DataFrame(
        {
            "item": np.arange(len(test)),
            "label": test_labels,
            "answer": answers,
            "right": (answers == test_labels).astype(int),
        }
    )


def _nearest(vectors: np.ndarray, k: int) -> np.ndarray:
    unit = _unit(vectors)
    alike = unit @ unit.T  # (n, n)
    np.fill_diagonal(alike, -np.inf)
    return np.argsort(-alike, axis=1, kind="stable")[:, :k]


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, float)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(length) & (length > 0)).all():
        raise ValueError("a vector has length 0 or is not finite")
    return vectors / length
