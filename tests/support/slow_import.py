"""A preload of a fork server that takes a while."""

import time

time.sleep(3)
