"""Runs all Python cases against the server at DAYBOOK_URL."""

import sys

import asynchronous  # noqa: F401  registers its cases
import cases
import streams  # noqa: F401
import subscriptions  # noqa: F401

sys.exit(cases.main())
