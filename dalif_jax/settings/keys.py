"""Every setting, once, with its default: the paper's own choices where it names them.

A recipe starts from `get_config()` and overrides a few keys. The config is locked, so a key that is
not declared here is an error there and on the command line.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

# The schedules that are followed for `schedule_epochs` at a time, and all of them.
PERIODIC = ("step", "cosine_past_end", "plateau")
SCHEDULES = ("cosine", "onecycle", "constant", *PERIODIC)
OPTIMIZERS = ("sgd", "adam", "adamw", "amsgrad", "muon")
# What research changes: each is a key that names one of a table.
PIECES = ("model", "neuron", "norm", "attention", "loss")


def get_config():
    """The locked base config; `placeholder` keys are unset until given."""
    config = ConfigDict()

    # What is trained.
    config.model = "resnet20"  # resnet18 34 19 20 17, vgg16 11, vggsnn, sew_resnet18 34, net_7b,
    #                            widenet_7b, widenet_7b_glif, ms_resnet18 34 104, ds_resnet14 20 32,
    #                            plifnet_gesture, _dvs, _cifar10, three_conv, five_conv,
    #                            sts_transformer; small, mini, tiny: for two cores
    config.neuron = "dalif"  # dalif, lif, tied; Fig. 2: baseline, spatial, temporal, both, control;
    #                          plif, glif, alif, klif, lsg, ltmd, mlf, liaf, diet, bdett, imlif,
    #                          residue, analog
    config.norm = "batch"  # batch, tdbn, none
    config.attention = "none"  # ta, ma, asa, pfa: on currents before neurons, or where the network
    #                            has it
    config.loss = "cross_entropy"  # of the averaged logits; tet: of each timestep's; mse: of rates;
    #                                im, recdis, ltmd
    config.dataset = "cifar10"  # digits, cifar10 100, imagenet; events: see below; one's own:
    #                            image_folder, arrays, event_folder, in data_dir
    config.data_dir = ""  # "": the environment's TFDS_DATA_DIR, else ~/tensorflow_datasets
    config.data_mean = ()  # of an own set's pixels, 0 to 1, a number a channel; (): measured
    config.data_std = ()
    config.found = ConfigDict()  # what an own set holds: the programs look, and write it here
    config.timesteps = 2
    config.seed = 3407  # of the initial weights, the data order and the augmentation
    config.dtype = "float32"  # of convolutions and activations: float32, bfloat16, float64

    # The neuron (paper, III). Membranes, thresholds and norms are float32 or wider throughout.
    config.threshold = 1.0  # fires at membrane >= threshold
    config.surrogate = "rectangle"  # rectangle, triangle, arctan, sigmoid, tanh, bell, evolving
    config.surrogate_width = 1.0  # a of eq. 11, in units of the membrane
    config.surrogate_width_end = placeholder(float)  # when training ends; unset: it stays
    config.decay_function = "tanh"  # f in alpha = f(a), beta = f(b): tanh, sigmoid
    config.decay_init = 1.0  # a and b at the start
    config.learn_alpha = placeholder(bool)  # unset: as the neuron's name says
    config.learn_beta = placeholder(bool)
    config.alpha = placeholder(float)  # fixed input gain where it is not learned
    config.beta = placeholder(float)  # fixed leak where it is not learned
    config.per_channel = False  # one of the neuron's numbers for each channel, not one a layer
    config.detach_reset = False  # whether the reset passes no gradient
    config.membrane_bn = False  # fire on the batch-normed membrane (MPBN; Table III needs it)
    config.membrane_bn_elementwise = False  # its statistics of each neuron, not of each channel
    config.fused = True  # the neuron in one pass that keeps only its input; False: the plain scan
    config.kernel = "xla"  # of that pass on NVIDIA GPUs: the compiler's, or pallas; pallas_norm:
    #                          the norm before it as well, and the sum between
    config.unroll = 0  # timesteps per iteration of that scan, 0 chooses
    config.rematerialize = "auto"  # keep only convolution outputs for the gradient: on, off, auto
    config.deterministic = False  # the same bits from every repeat on a GPU, at some cost in speed
    config.zero_init_residual = False  # start each block's last norm scale at 0

    # What one piece alone is told, declared in its own file: --config.neuron_options.tau=2.0.
    for piece in PIECES:
        config[f"{piece}_options"] = ConfigDict()

    # What is started from: the weights of a card or of a run's workdir, where they fit.
    config.init_from = ""

    # The schedule and the optimizer: SGD (paper, IV-A2).
    config.optimizer = "sgd"  # sgd, adam, adamw, amsgrad; muon: of convolutions' kernels,
    #                            all else by Adam at the same rate
    config.epochs = 1000
    config.batch_size = 128  # of a step, over all devices
    config.accumulate = 1  # parts of a batch worked through one by one, where it does not fit
    config.learning_rate = 0.1
    config.schedule = "cosine"  # to 0 over all steps; onecycle; constant; step; cosine_past_end;
    #                             plateau: falls where an epoch's loss does not
    config.schedule_epochs = 0  # step: between falls; cosine_past_end: to the first end; plateau:
    #                             how many without a lower loss are let pass
    config.schedule_factor = 0.1  # step, plateau: what the rate falls to each time
    config.warmup_epochs = 0.0  # linear from 0, before the cosine
    config.momentum = 0.9
    config.nesterov = False
    config.weight_decay = 1e-4  # added to the gradient, as PyTorch's SGD does
    config.weight_decay_all = False  # True: also on the neurons' decays and the norms
    config.label_smoothing = 0.0
    config.ema_decay = 0.0  # > 0: evaluate an exponential moving average of the weights

    # The data. Augmentation runs inside the step, in this order: crop, flip, autoaugment, cutout.
    # alternate_flip, in place of flip: each image is mirrored in every other epoch.
    config.augment = ("crop", "flip", "autoaugment", "cutout")
    config.crop_padding = 4  # pixels
    config.crop_border = "black"  # of images, what lies beyond: black; reflect: their mirror image
    config.cutout_size = 16  # pixels
    config.cutout_fill = "black"  # of images, the hole: black; mean: the set's mean colour
    config.mixup = 0.0  # > 0: examples are blended in pairs, shares from Beta(mixup, mixup)
    config.validation_split = 0.0  # share of the training set held out to choose `best` on

    config.data_workers = 0  # processes that decode ImageNet, 0: threads of this one

    # Event cameras: digits_dvs, nmnist, cifar10dvs, dvsgesture, dvsgesture_tonic. Recordings become
    # `timesteps` frames once, kept on disk. Augmentation: crop, flip, roll, nda, one draw a
    # recording.
    config.frame_size = 0  # side in pixels, 0: cifar10dvs 64, else the sensor's; imagenet 224
    config.split_by = "number"  # a frame's share of the recording: number of events, time
    config.frame_ms = (
        0.0  # split_by=time: a frame lasts so long, from the first event; 0: its share
    )
    config.resize = "sum"  # of events, conserves counts; of frames: bilinear, area, antialias
    config.time_unit = (
        "auto"  # event_folder, times in NumPy files: us, ms, s; auto: microseconds in
    )
    #                            named fields, milliseconds in [N, 4] unless that lasts too long
    config.frame_values = "counts"  # 8bit: each frame over its largest count, in 256 levels to 1
    config.train_timesteps = 0  # > 0: each step trains on so many frames, drawn in order
    config.test_slices = 0  # > 0: trained on a random run of frames of frame_ms each; tested on so
    #                         many, spread evenly, and right where more than half are
    config.roll_pixels = 5  # largest shift of roll
    config.skip_bad = False  # leave out and count recordings that cannot be used
    config.partial_data = False  # take what recordings, or images of ImageNet, there are
    config.cache_dir = ""  # of the frames; "": ~/.cache/dalif_jax/frames

    # What a run leaves behind, and when.
    config.eval_batch_size = 256
    config.mirrored_views = False  # images: the test set once more, beside it, by the mean answer
    #                                to each image and its mirror image
    config.eval_every = 1  # epochs between evaluations; the last epoch is always evaluated
    config.checkpoint_every = 1  # epochs between checkpoints
    config.keep = 2  # newest checkpoints kept, beside the best
    config.mac_pj = 4.6  # energy of a multiply-accumulate, pJ (45 nm, as in Table III)
    config.ac_pj = 0.9  # of an accumulate
    config.log_every = 50  # steps between progress lines and metrics records
    config.lock()
    for key in ("found", *(f"{piece}_options" for piece in PIECES)):
        config[key].unlock()
    return config
