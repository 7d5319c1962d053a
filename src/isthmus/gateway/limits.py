"""Limits of the data path. Each has a name, a default and a sentence; beyond it a request gets a coded refusal."""

BODY_BYTES_MAX = 64 * 1024 * 1024
"""A request's body, JSON and tensors together; larger is 413."""

HEADER_BYTES_MAX = 64 * 1024
"""The JSON of a request without its tensors' data."""

JSON_DEPTH_MAX = 8
"""Nested lists and objects in the JSON of a request without its tensors' data."""

JSON_DATA_BYTES_MAX = 8 * 1024 * 1024
"""Tensor data written as JSON text; larger tensors travel as binary data, which takes a twentieth of the memory."""

INPUTS_MAX = 4
"""Input tensors that are read before a request is refused for having the wrong ones."""

OUTPUTS_MAX = 4
"""Outputs that one request may ask for."""

PARAMETERS_MAX = 16
"""Parameters on a request, an input or an output."""

NAME_CHARS_MAX = 128
"""A name of a tensor or parameter, or a request id."""

IMAGES_MAX = 128
"""Images in one request: the batch. The worst case that is held in the book is this many inferences."""

REQUEST_PIXELS_MAX = 40_000_000
"""Pixels of all images of one request after decoding (three bytes each), so that small files cannot fill the memory."""

REQUEST_CHARACTERS_MAX = 16_384
"""Characters of all texts of one request, as many as in one longest text: at worst some ten seconds of the text backbone on one core."""

WORKERS = 2
"""Requests decoded and scored at the same time."""

QUEUE_MAX = 32
"""Requests that wait for a worker; the next one gets 429 and Retry-After."""

RETRY_AFTER_S = 1
"""What a refused client is told to wait."""

BODY_READ_TIMEOUT_S = 30.0
"""Time for a client to send its body; slower is 408."""

ANSWERS_KEPT_MAX = 1024
"""Answers kept in memory for repeats of a request id; an older one is computed again from the same artefact, free of charge."""

DIGEST_RECHECK_S = 60.0
"""Time after which an artefact's bytes are hashed again although size, times and inode have not changed."""

UNSETTLED_MAX = 1000
"""Attempts whose end could not be written because the book was down; beyond it, nothing new is dispatched."""

REPEAT_WAIT_S = 60.0
"""Time that a repeat of a request waits for the first one to end, before it is told that it is in progress."""

IN_FLIGHT_BYTES_MAX = 256 * 1024 * 1024
"""Bodies in memory at the same time, over all requests; beyond it 429 and Retry-After."""

ATTEMPTS_MAX = 16
"""Attempts under one request id; each that failed was ended without charge."""

ENGINES_AWAKE_MAX = 16
"""Engine processes that run beside those in use (some 100 MB each); the least recently used sleep, and a request wakes them in a second."""
