"""What is claimed about speed, memory and behaviour under load: beside the alternatives, by ``./run bench``."""
