# SPDX-License-Identifier: MIT
"""What programs written for other rate limiters import instead, one module for each of them."""
