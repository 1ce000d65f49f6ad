"""Runs all Python cases against the server at DAYBOOK_URL."""

import sys

import asynchronous  # noqa: F401  registers its cases
import cases
import persistent  # noqa: F401
import management  # noqa: F401
import multi  # noqa: F401
import streams  # noqa: F401
import subscriptions  # noqa: F401
import virtual  # noqa: F401

sys.exit(cases.main())
