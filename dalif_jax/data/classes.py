"""The names of the classes, in the order of their labels, for pictures and tables."""

from dalif_jax.data.events.layouts import CIFAR_CLASSES

CIFAR100_CLASSES = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle",
    "bottle", "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle",
    "caterpillar", "cattle", "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch",
    "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish", "forest", "fox",
    "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion",
    "lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom",
    "oak_tree", "orange", "orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree",
    "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road",
    "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake",
    "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone",
    "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale",
    "willow_tree", "wolf", "woman", "worm",
)  # fmt: skip
GESTURES = (
    "hand clapping", "right hand wave", "left hand wave", "right arm clockwise",
    "right arm counter clockwise", "left arm clockwise", "left arm counter clockwise", "arm roll",
    "air drums", "air guitar", "other gestures",
)  # fmt: skip

NAMES = {
    "cifar10": CIFAR_CLASSES, "cifar10dvs": CIFAR_CLASSES, "cifar100": CIFAR100_CLASSES,
    "dvsgesture": GESTURES, "dvsgesture_tonic": GESTURES,
}  # fmt: skip


def names(dataset, found=None):
    """The names of a set's classes, None where they have none but their numbers, as digits; `found`
    as in sets.spec."""
    return tuple(found["classes"]) if found else NAMES.get(dataset)
