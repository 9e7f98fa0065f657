"""A preload that ends its fork server."""

import os

os._exit(9)
