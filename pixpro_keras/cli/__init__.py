"""Commands: one module each, whose `main` the scripts and the installed programs call."""

from pixpro_keras.utils.notices import import_without_notices

# Before a command's module imports TensorFlow.
import_without_notices()
